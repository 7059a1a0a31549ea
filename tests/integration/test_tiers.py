"""Tiers: models shared by the process, settings of one user, the layers they form."""

import json

import pytest
from harness import SOURCE_DIR, UNKNOWN_ID, Server, run_cli

RERANKER = SOURCE_DIR / "tests" / "data" / "golden" / "models" / "bert-rank"
KEY = "retrieval.top_k"


def good(ran):
    assert ran.returncode == 0, ran
    return ran.stdout


def setting(api, user, key=KEY):
    return api.get(f"/users/{user}/settings/{key}").data["setting"]


@pytest.fixture
def remembering(api, user, agent):
    """A user with eight messages that all match."""
    session = api.session(user, agent)
    for i in range(8):
        api.add(session, f"the cat sat on mat {i}")
    return user


SERVER = {"model": False}


def found(api, user, **fields):
    return len(api.post(f"/users/{user}/query", {"query": "cat", **fields}).data["results"])


# --- settings of a user --------------------------------------------------------------------------


def test_a_parameter_goes_before_the_user_and_the_user_before_all(api, remembering):
    assert found(api, remembering) == 5
    reply = api.put(f"/users/{remembering}/settings/{KEY}", {"value": 3})
    assert reply.status == 200
    shown = reply.data["setting"]
    assert (shown["value"], shown["layer"], shown["user"], shown["global"]) == ("3", "user", "3", "5")
    assert (shown["global_source"], shown["request_parameter"]) == ("default", "top_k")
    assert found(api, remembering) == 3
    assert found(api, remembering, top_k=7) == 7
    assert api.delete(f"/users/{remembering}/settings/{KEY}").data["setting"]["layer"] == "global"
    assert found(api, remembering) == 5


def test_several_settings_change_together_or_not_at_all(api, remembering):
    path = f"/users/{remembering}/settings"
    refused = api.put(path, {KEY: 2, "retrieval.bm25_b": 7})
    assert refused.status == 400
    assert refused.message == "retrieval.bm25_b is '7'; allowed: 0 to 1"
    assert found(api, remembering) == 5
    rows = {r["key"]: r for r in api.put(path, {KEY: "2", "retrieval.bm25_b": 0.5}).data["settings"]}
    assert (rows[KEY]["user"], rows["retrieval.bm25_b"]["user"]) == ("2", "0.5")
    assert found(api, remembering) == 2
    rows = {r["key"]: r for r in api.put(path, {KEY: None}).data["settings"]}
    assert (rows[KEY]["user"], rows["retrieval.bm25_b"]["user"]) == (None, "0.5")
    assert all(r["layer"] == "global" for r in api.delete(path).data["settings"])


@pytest.mark.parametrize(
    "key, value, status, words",
    [
        (KEY, 0, 400, "allowed: 1 to 1000"),
        (KEY, -1, 400, "allowed: 1 to 1000"),
        (KEY, 10**18, 400, "allowed: 1 to 1000"),
        (KEY, 1.5, 400, "allowed: 1 to 1000"),
        (KEY, True, 400, "allowed: 1 to 1000"),
        (KEY, "", 400, "allowed: 1 to 1000"),
        (KEY, None, 422, "must be a string, a number or a boolean"),
        (KEY, [3], 422, "must be a string, a number or a boolean"),
        ("retrieval.topk", 3, 400, "did you mean 'retrieval.top_k'?"),
        ("server.port", 3, 400, "server.port is the same for all users"),
        ("llm.base_url", "x", 400, "llm.base_url is the same for all users"),
    ],
)
def test_what_is_not_allowed_is_named(api, user, key, value, status, words):
    reply = api.put(f"/users/{user}/settings/{key}", {"value": value})
    assert reply.status == status and words in json.dumps(reply.json)
    assert setting(api, user)["layer"] == "global"


def test_unknown_users_have_no_settings(api):
    for reply in (
        api.get(f"/users/{UNKNOWN_ID}/settings"),
        api.put(f"/users/{UNKNOWN_ID}/settings/{KEY}", {"value": 3}),
        api.delete(f"/users/{UNKNOWN_ID}/settings"),
    ):
        assert (reply.status, reply.message) == (404, f"User with ID '{UNKNOWN_ID}' not found")


def test_settings_survive_a_crash_and_go_with_the_user(tmp_path):
    server = Server(tmp_path / "data", model=False)
    with server, server.api() as api:
        user = api.user("ann")
        api.put(f"/users/{user}/settings/{KEY}", {"value": 4})
        server.kill()
    with server, server.api() as api:
        assert setting(api, user)["user"] == "4"
        api.delete(f"/users/{user}")
        assert setting(api, api.user("ann"))["user"] is None


def test_the_command_line_shows_and_changes_the_layers(tmp_path):
    with Server(tmp_path / "data", model=False, settings=[f"{KEY}=6"]) as server, server.api() as api:
        user = api.user("ann")
        table = good(run_cli("config", "--user", "ann", data=server.data))
        assert [line.split() for line in table.splitlines() if line.startswith(KEY + " ")] == [
            [KEY, "6", "-", "6", "(--set)", "top_k"]
        ]
        good(run_cli("config", "--user", "ann", "--set", f"{KEY}=2", data=server.data))
        assert setting(api, user)["user"] == "2"
        one = good(run_cli("config", KEY, "--user", "ann", data=server.data))
        assert "  value    2\n" in one and "  global   6\n" in one and "  from     --set\n" in one
        rows = json.loads(good(run_cli("config", "--user", "ann", "--unset", KEY, "--json", data=server.data)))
        assert {r["key"]: r["user"] for r in rows["settings"]}[KEY] is None
        wrong = run_cli("config", "--user", "ann", "--set", f"{KEY}=zero", data=server.data)
        assert wrong.returncode == 1 and "retrieval.top_k is 'zero'; allowed: 1 to 1000" in wrong.stderr
        assert run_cli("config", "--unset", KEY, data=server.data).returncode == 2
        assert run_cli("config", "server.port", "--user", "ann", data=server.data).returncode == 2


# --- models in memory ----------------------------------------------------------------------------


def test_models_in_memory_are_told_preloaded_and_cleared(tmp_path):
    with Server(tmp_path / "data") as server, server.api() as api:
        before = api.get("/admin/models").data
        assert [m["name"] for m in before["models"]] == ["all-MiniLM-L6-v2"]
        assert before["models"][0]["users"] >= 1 and before["models"][0]["load_ms"] > 0
        assert (before["expected"], before["actual"], before["outside"]) == (1, 1, 0)
        after = api.post("/admin/models/preload", {"model": str(RERANKER)}).data
        assert [(m["task"], m["preloaded"]) for m in after["models"]] == [("encode", False), ("rank", True)]
        again = api.post("/admin/models/preload", {"model": str(RERANKER)}).data
        assert (again["loads"], again["hits"]) == (after["loads"], after["hits"] + 1)
        status = api.get("/status").data["runtime"]
        assert status["models"]["expected"] == status["models"]["actual"] == 2
        cleared = api.post("/admin/models/clear").data
        assert (cleared["released"], cleared["stayed"]) == (1, 1)
        assert cleared["released_bytes"] > 0 and [m["task"] for m in cleared["models"]] == ["encode"]
        missing = api.post("/admin/models/preload", {"model": "none-such"})
        assert (missing.status, missing.message) == (404, "there is no model 'none-such'")


def test_the_command_line_reaches_the_models_of_a_server(tmp_path):
    with Server(tmp_path / "data") as server:
        assert "rank" not in good(run_cli("model", "preload", RERANKER, "--json", data=server.data)).split('"path"')[0]
        told = good(run_cli("model", "clear", data=server.data))
        assert told.startswith("released 1 (") and ", in use 1 (" in told
    gone = run_cli("model", "clear", data=server.data)
    assert gone.returncode == 1 and gone.stderr.startswith("memfuse: ")
    assert run_cli("model", "preload", data=server.data).returncode == 2


def test_a_reranker_orders_the_results(tmp_path):
    settings = ["rerank.use_rerank=true", f"rerank.model={RERANKER}"]
    with Server(tmp_path / "data", settings=settings) as server, server.api() as api:
        user = api.user("ann")
        session = api.session(user, api.agent("a"))
        for text in ("the cat sat", "a dog ran", "the bird sang"):
            api.add(session, text)
        results = api.query(user, "which animal sat?")
        scores = [r["score"] for r in results]
        assert len(scores) == 3 and scores == sorted(scores, reverse=True)
        status = api.get("/status").data
        assert status["runtime"]["reranker"]["loaded"] and status["runtime"]["reranker"]["queries"] == 1
        api.put(f"/users/{user}/settings/rerank.use_rerank", {"value": False})
        api.query(user, "which animal sat?")
        assert api.get("/status").data["runtime"]["reranker"]["queries"] == 1


def test_the_key_of_a_language_model_is_never_shown(tmp_path):
    settings = ["llm.provider=openai", "llm.base_url=http://127.0.0.1:9/v1"]
    env = {"OPENAI_API_KEY": "sk-very-secret"}
    with Server(tmp_path / "data", model=False, settings=settings, env=env) as server, server.api() as api:
        for path in ("/status", "/admin/models"):
            assert "sk-very-secret" not in json.dumps(api.get(path).data)
        user = api.user("ann")
        assert "sk-very-secret" not in json.dumps(api.get(f"/users/{user}/settings").data)
        assert "sk-very-secret" not in server.log()
    assert "sk-very-secret" not in good(run_cli("config", data=server.data, env=env))


def test_a_language_model_that_cannot_work_stops_the_start(tmp_path):
    ran = run_cli("serve", "--listen", "127.0.0.1:0", data=tmp_path / "data", settings=["llm.provider=openai", "llm.base_url=none"])
    assert ran.returncode == 1 and "llm.base_url: an address such as" in ran.stderr
