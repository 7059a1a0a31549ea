"""API keys: with validation on, a key opens its owner's data and nothing else."""

import pytest
from harness import UNKNOWN_ID, Server, run_cli
from memfuse import MemFuse
from memfuse.utils import MemFuseHTTPError

SETTINGS = ["server.api_key_validation=true"]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("keys") / "data", settings=SETTINGS) as running:
        yield running


@pytest.fixture
def root(server):
    """An administrator: whoever may use the local socket."""
    with server.api_local() as api:
        yield api


class Owner:
    def __init__(self, server, root, fresh):
        self.name = fresh("owner")
        self.id = root.user(self.name)
        self.key_id, self.key = self.new_key(root)
        self.agent = root.agent(fresh("agent"))
        self.session = root.session(self.id, self.agent, "s")
        self.message = root.add(self.session, f"the plan of {self.name}")[0]
        self.knowledge = root.learn(self.id, f"a fact about {self.name}")[0]
        self.api = server.api(headers={"Authorization": f"Bearer {self.key}"})

    def new_key(self, root, **fields):
        made = root.post(f"/users/{self.id}/api-keys", {"name": "k", **fields}).data["api_key"]
        return made["id"], made["key"]


@pytest.fixture
def alice(server, root, fresh):
    owner = Owner(server, root, fresh)
    yield owner
    owner.api.close()


@pytest.fixture
def bob(server, root, fresh):
    owner = Owner(server, root, fresh)
    yield owner
    owner.api.close()


@pytest.mark.parametrize(
    "headers, reason",
    [
        ({}, "Missing API key"),
        ({"Authorization": "Basic dXNlcjpwYXNz"}, "Invalid API key format"),
        ({"Authorization": "Bearer"}, "Invalid API key format"),
        ({"Authorization": "nonsense"}, "Invalid API key format"),
        ({"Authorization": "Bearer nonsense"}, "Invalid API key"),
        ({"X-API-Key": "nonsense"}, "Invalid API key"),
        ({"Authorization": "Bearer " + "x" * 5000}, "Invalid API key"),
    ],
)
def test_without_a_good_key_it_is_401(server, headers, reason):
    with server.api(headers=headers) as api:
        for method, path in (
            ("GET", "/users"),
            ("GET", f"/users/{UNKNOWN_ID}"),
            ("POST", f"/users/{UNKNOWN_ID}/query"),
            ("GET", f"/sessions/{UNKNOWN_ID}/messages?limit=x"),
            ("GET", "/status"),
        ):
            reply = api.call(method, path, {} if method == "POST" else None)
            assert (reply.status, reply.message, reply.field) == (401, f"Authentication failed: {reason}", "api_key")
            assert reply.headers["WWW-Authenticate"] == "Bearer"


def test_health_is_open(server):
    with server.api() as api:
        assert api.get("/health").status == 200
        assert api.get("/health/", headers={"Authorization": "Bearer wrong"}).status == 200


def test_either_header_carries_the_key(server, alice):
    for headers in (
        {"Authorization": f"Bearer {alice.key}"},
        {"Authorization": f"bearer {alice.key}"},
        {"X-API-Key": alice.key},
    ):
        with server.api(headers=headers) as api:
            assert api.get(f"/users/{alice.id}").status == 200


def test_the_sdk_works_with_a_key_of_its_own_user(server, root, alice):
    with MemFuse(base_url=server.url, api_key=alice.key, timeout=60) as client:
        memory = client.init(user=alice.name, session="with key")
        assert memory.user_id == alice.id
        memory.add([{"role": "user", "content": "Keys are under the mat."}])
        assert "mat" in memory.query_session("where are the keys?")["data"]["results"][0]["content"]
        with pytest.raises(MemFuseHTTPError) as caught:
            client.init(user="somebody else")
        assert caught.value.status_code == 403


def test_a_key_opens_all_of_its_owner(alice):
    api = alice.api
    assert [u["id"] for u in api.get("/users").data["users"]] == [alice.id]
    assert [s["id"] for s in api.get("/sessions").data["sessions"]] == [alice.session]
    assert [m["id"] for m in api.messages(alice.session)] == [alice.message]
    assert {h["id"] for h in api.query(alice.id, "plan fact")} == {alice.message, alice.knowledge}
    assert api.put(f"/users/{alice.id}", {"description": "mine"}).status == 200
    assert [k["key"] for k in api.get(f"/users/{alice.id}/api-keys").data["api_keys"]] == ["********"]
    assert api.post("/sessions", {"user_id": alice.id, "agent_id": alice.agent}).status == 201


def test_a_key_opens_nothing_of_anybody_else(root, alice, bob):
    api = alice.api
    body = {"messages": [{"role": "user", "content": "x"}]}
    session, user = f"/sessions/{bob.session}", f"/users/{bob.id}"
    attempts = [
        api.get(user),
        api.put(user, {"name": "stolen"}),
        api.delete(user),
        api.post(f"{user}/query", {"query": "plan"}),
        api.get(f"/users?name={bob.name}"),
        api.get(f"/sessions?user_id={bob.id}"),
        api.get(f"/sessions?name=s&user_id={bob.id}"),
        api.post("/sessions", {"user_id": bob.id, "agent_id": bob.agent}),
        api.get(session),
        api.put(session, {"name": "stolen"}),
        api.delete(session),
        api.get(f"{session}/messages"),
        api.post(f"{session}/messages", body),
        api.post(f"{session}/messages/read", {"message_ids": [bob.message]}),
        api.put(f"{session}/messages", {"message_ids": [bob.message], "new_messages": body["messages"]}),
        api.delete(f"{session}/messages", {"message_ids": [bob.message]}),
        api.get(f"{session}/chunks"),
        api.get(f"/chunks/stats?user_id={bob.id}"),
        api.get(f"{user}/knowledge"),
        api.post(f"{user}/knowledge", {"knowledge": ["x"]}),
        api.post(f"{user}/knowledge/read", {"knowledge_ids": [bob.knowledge]}),
        api.put(f"{user}/knowledge", {"knowledge_ids": [bob.knowledge], "new_knowledge": ["x"]}),
        api.delete(f"{user}/knowledge", {"knowledge_ids": [bob.knowledge]}),
        api.get(f"{user}/api-keys"),
        api.post(f"{user}/api-keys", {"name": "stolen"}),
        api.delete(f"{user}/api-keys/{bob.key_id}"),
        api.post(f"{user}/flush"),
    ]
    assert {reply.status for reply in attempts} <= {403, 404}, [r.status for r in attempts]
    for reply in attempts:
        assert b"the plan of" not in reply.body
    mine = f"/sessions/{alice.session}/messages"
    assert api.post(f"{mine}/read", {"message_ids": [bob.message]}).status == 404
    assert api.post(f"/users/{alice.id}/query", {"query": "plan", "session_id": bob.session}).status == 404
    assert api.delete(f"/users/{alice.id}/api-keys/{bob.key_id}").status == 404
    assert all(h["metadata"]["user_id"] == alice.id for h in api.query(alice.id, f"the plan of {bob.name}", top_k=100))
    assert root.texts(bob.session) == [f"the plan of {bob.name}"]
    assert root.get(user).data["user"]["name"] == bob.name
    assert [k["id"] for k in root.get(f"{user}/api-keys").data["api_keys"]] == [bob.key_id]


def test_the_same_session_name_of_two_users_stays_apart(alice, bob):
    assert [s["id"] for s in alice.api.get("/sessions?name=s").data["sessions"]] == [alice.session]
    assert [s["id"] for s in bob.api.get("/sessions?name=s").data["sessions"]] == [bob.session]


@pytest.mark.parametrize(
    "method, path, body",
    [
        ("POST", "/users", {"name": "new"}),
        ("GET", "/status", None),
        ("POST", "/admin/reload", None),
        ("POST", "/import", {}),
    ],
)
def test_what_concerns_everybody_is_for_administrators(alice, root, method, path, body):
    assert alice.api.call(method, path, body).status == 403
    assert root.get("/users?name=new").status == 404


def test_anybody_may_make_an_agent_but_not_change_one(alice, root):
    assert alice.api.post("/agents", {"name": f"agent by {alice.name}"}).status == 201
    assert alice.api.put(f"/agents/{alice.agent}", {"description": "x"}).status == 403
    assert alice.api.delete(f"/agents/{alice.agent}").status == 403
    assert root.get(f"/agents/{alice.agent}").status == 200


def test_a_revoked_key_is_refused_at_once(server, root, alice):
    key_id, key = alice.new_key(root)
    with server.api(headers={"X-API-Key": key}) as api:
        assert api.get(f"/users/{alice.id}").status == 200
        assert root.delete(f"/users/{alice.id}/api-keys/{key_id}").status == 200
        assert api.get(f"/users/{alice.id}").status == 401
    assert alice.api.get(f"/users/{alice.id}").status == 200


def test_an_expired_key_is_refused(server, root, alice):
    _, old = alice.new_key(root, expires_at="2001-01-01T00:00:00Z")
    _, young = alice.new_key(root, expires_at="2999-01-01T00:00:00Z")
    for key, status in ((old, 401), (young, 200)):
        with server.api(headers={"X-API-Key": key}) as api:
            assert api.get(f"/users/{alice.id}").status == status
    assert root.post(f"/users/{alice.id}/api-keys", {"expires_at": "tomorrow"}).status == 422
    assert root.post(f"/users/{alice.id}/api-keys", {"user_id": UNKNOWN_ID}).status == 422


def test_a_deleted_user_s_key_is_refused(root, bob):
    assert root.delete(f"/users/{bob.id}").status == 200
    assert bob.api.get("/users").status == 401


def test_keys_are_stored_only_as_hashes(server, root, alice):
    for file in server.data.iterdir():
        if file.is_file():
            assert alice.key.encode() not in file.read_bytes(), file
    assert alice.key not in server.log()


def test_commands_of_the_data_s_owner_need_no_key(server, alice):
    ran = run_cli("user", "list", data=server.data)
    assert ran.returncode == 0 and alice.name in ran.stdout
    ran = run_cli("search", "--user", alice.name, "plan", data=server.data)
    assert ran.returncode == 0 and f"the plan of {alice.name}" in ran.stdout


def test_with_keys_other_machines_may_be_served(tmp_path):
    with Server(tmp_path / "data", model=False, settings=SETTINGS, listen=["0.0.0.0:0"]) as server:
        with server.api() as api:
            assert api.get("/health").status == 200
            assert api.get("/users").status == 401
