"""Settings: where a value comes from, what is refused and how, reloading, derived pages."""

import json
import re
import signal
import subprocess
import time

import pytest
from harness import BINARY, PATIENCE_S, SOURCE_DIR, Server, run_cli

KEY = "buffer.round_buffer.max_tokens"
VARIABLE = "MEMFUSE_BUFFER_ROUND_BUFFER_MAX_TOKENS"


def rows(*arguments, **options):
    ran = run_cli("config", "--json", *arguments, **options)
    assert ran.returncode == 0, ran.stderr
    return {row["key"]: row for row in json.loads(ran.stdout)}


def is_default(row):
    if row["type"] == "number":
        return float(row["value"]) == float(row["default"])
    return row["value"] == row["default"]


def refused(ran, *texts):
    assert ran.returncode == 1 and ran.stdout == "" and ran.stderr.startswith("memfuse: "), ran
    for text in texts:
        assert str(text) in ran.stderr, ran.stderr


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "my.yaml"

    def write(text):
        path.write_text(text)
        return path

    return write


def test_every_setting_says_value_source_default_and_range():
    table = rows()
    assert len(table) > 40
    for row in table.values():
        assert set(row) == {"key", "value", "source", "default", "type", "range", "reloadable", "per_user", "help"}
        assert is_default(row) and row["source"] == "default" and row["help"]
    for key, value in {
        "server.port": "8000",
        "buffer.enabled": "true",
        KEY: "800",
        "buffer.round_buffer.max_size": "5",
        "buffer.round_buffer.token_model": "gpt-4o-mini",
        "buffer.hybrid_buffer.max_size": "5",
        "buffer.hybrid_buffer.chunk_strategy": "turn",
        "buffer.hybrid_buffer.chunk_words": "800",
        "buffer.hybrid_buffer.chunk_context": "2",
        "buffer.hybrid_buffer.chunk_characters": "1000",
        "buffer.hybrid_buffer.chunk_overlap": "100",
        "buffer.hybrid_buffer.chunk_integrated_words": "200",
        "buffer.hybrid_buffer.chunk_integrated_tokens": "200",
        "buffer.query.max_size": "15",
        "buffer.hybrid_buffer.embedding_model": "all-MiniLM-L6-v2",
        "buffer.query.cache_size": "100",
        "buffer.query.default_sort_by": "score",
        "buffer.query.default_order": "desc",
        "store.synchronous": "full",
        "server.api_key_validation": "false",
    }.items():
        assert table[key]["value"] == value, key


def test_later_sources_win(file):
    path = file("buffer:\n  round_buffer:\n    max_tokens: 100\n    max_size: 7\n")
    table = rows("--config", path)
    assert (table[KEY]["value"], table[KEY]["source"]) == ("100", f"{path}:3")
    assert table["buffer.round_buffer.max_size"]["source"] == f"{path}:4"
    table = rows("--config", path, env={VARIABLE: "200"})
    assert table[KEY]["value"] == "200" and VARIABLE in table[KEY]["source"]
    table = rows("--config", path, env={VARIABLE: "200"}, settings=[f"{KEY}=300"])
    assert (table[KEY]["value"], table[KEY]["source"]) == ("300", "--set")
    table = rows("--config", path, settings=[f"{KEY}=300", f"{KEY}=400"])
    assert table[KEY]["value"] == "400"
    assert table["buffer.round_buffer.max_size"]["value"] == "7", "what the file alone says stays"


def test_one_setting_is_explained():
    ran = run_cli("config", KEY)
    assert ran.returncode == 0
    assert ran.stdout.splitlines()[0] == KEY
    assert "800" in ran.stdout and "1000000" in ran.stdout


@pytest.mark.parametrize(
    "text, line, words",
    [
        ("buffer:\n  round_buffer:\n    max_tokens: 0\n", 3, [KEY, "1", "1000000"]),
        ("buffer:\n  round_buffer:\n    max_tokens: many\n", 3, [KEY, "'many'"]),
        ("log:\n  level: loud\n", 2, ["log.level", "debug|info|warn|error|off"]),
        ("buffer:\n  enabled: perhaps\n", 2, ["buffer.enabled"]),
        ("retrieval:\n  bm25_b: 1.5\n", 2, ["retrieval.bm25_b"]),
        ("\n\nserver:\n  prot: 1\n", 4, ["server.prot", "server.port"]),
        ("nonsense: 1\n", 1, ["nonsense"]),
        ("server: [1, 2]\n", 1, ["server"]),
        ("server: 5\n", 1, ["server"]),
        ("server:\n  port: 1\n  port: 2\n", 3, ["server.port"]),
        ("server:\n  port: {a: 1}\n", 2, ["server.port"]),
        ("server:\n\tport: 1\n", 2, ["YAML"]),
        ("server: {port: 1\n", 2, ["YAML"]),
        ("- server\n", 1, []),
    ],
)
def test_an_error_in_a_file_names_file_line_and_what_is_allowed(file, text, line, words):
    path = file(text)
    ran = run_cli("serve", "--check-config", "--config", path)
    refused(ran, *words)
    assert re.search(rf"{re.escape(str(path))}:{line}\b", ran.stderr), ran.stderr


def test_an_error_elsewhere_names_its_place(tmp_path):
    check = ("serve", "--check-config")
    refused(run_cli(*check, env={VARIABLE: "-5"}), VARIABLE, KEY, "1000000")
    refused(run_cli(*check, env={"MEMFUSE_NO_SUCH_SETTING": "1"}), "MEMFUSE_NO_SUCH_SETTING")
    refused(run_cli(*check, settings=[f"{KEY}=1000001"]), "--set", KEY, "1000000")
    refused(run_cli(*check, settings=["no.such=1"]), "no.such")
    refused(run_cli(*check, settings=["server.port"]), "key=value")
    refused(run_cli(*check, "--config", tmp_path / "none.yaml"), "none.yaml")
    for command in (("status",), ("user", "list"), ("search", "-u", "u", "q")):
        refused(run_cli(*command, settings=[f"{KEY}=0"], cwd=tmp_path), KEY)
    assert list(tmp_path.iterdir()) == []


def test_good_settings_are_said_to_be_good(file, tmp_path):
    ran = run_cli("serve", "--check-config", "--config", file("server:\n  port: 9000\n"), cwd=tmp_path)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "the settings are valid\n", "")
    assert run_cli("serve", "--check-config", "--config", file("")).returncode == 0


def test_variables_of_clients_and_of_set_up_are_no_settings():
    names = ("MEMFUSE_API_KEY", "MEMFUSE_BASE_URL", "MEMFUSE_DATA", "MEMFUSE_MODEL_SOURCE")
    assert run_cli("serve", "--check-config", env={name: "x" for name in names}).returncode == 0


def test_the_pages_derived_from_the_table_are_up_to_date():
    for form, page in (("markdown", "docs/settings.md"), ("yaml", "config/memfuse.yaml")):
        made = run_cli("config", "--format", form)
        assert made.returncode == 0
        assert (SOURCE_DIR / page).read_text() == made.stdout, f"{page}: run `make docs`"


def test_the_page_of_commands_is_what_they_print():
    made = subprocess.run([SOURCE_DIR / "tools" / "cli_reference", BINARY], capture_output=True, text=True, check=True)
    assert (SOURCE_DIR / "docs" / "cli.md").read_text() == made.stdout, "docs/cli.md: run `make docs`"


def test_the_shipped_file_means_the_defaults():
    table = rows("--config", SOURCE_DIR / "config" / "memfuse.yaml")
    assert all(is_default(row) for row in table.values())
    assert all(row["source"].startswith(str(SOURCE_DIR)) for row in table.values())


# --- what settings do to a server ----------------------------------------------------------------


def window(api, session):
    return api.texts(session, buffer_only="true", limit=100)


def test_the_window_is_as_long_as_set(tmp_path):
    with (
        Server(tmp_path / "data", model=False, settings=["buffer.round_buffer.max_size=2"]) as server,
        server.api() as api,
    ):
        session = api.session(api.user("u"), api.agent("a"))
        for i in range(5):
            api.add(session, f"round {i}")
            assert 1 <= len(window(api, session)) <= 2


def test_without_a_buffer_nothing_is_recent_and_all_is_found(tmp_path):
    with Server(tmp_path / "data", settings=["buffer.enabled=false"]) as server, server.api() as api:
        user = api.user("u")
        session = api.session(user, api.agent("a"))
        ids = [api.add(session, f"apple number {i}")[0] for i in range(3)]
        assert window(api, session) == []
        assert [m["id"] for m in api.messages(session, buffer_only="false", order="asc")] == ids
        assert {h["id"] for h in api.query(user, "apple", store_type="keyword")} == set(ids)
        api.flush(user)
        assert {h["id"] for h in api.query(user, "a fruit", store_type="vector")} == set(ids)


def test_the_rate_limit_is_429_with_a_hint_and_spares_health(tmp_path):
    with (
        Server(tmp_path / "data", model=False, settings=["server.rate_limit_per_minute=10"]) as server,
        server.api() as api,
    ):
        replies = [api.get("/users") for _ in range(30)]
        refusals = [r for r in replies if r.status == 429]
        assert {r.status for r in replies} == {200, 429} and len(refusals) >= 10
        for reply in refusals:
            assert reply.message == "Rate limit exceeded" and int(reply.headers["Retry-After"]) >= 1
        assert api.get("/health").status == 200


def test_an_origin_that_is_listed_may_call(tmp_path):
    origin = "https://app.example"
    with (
        Server(tmp_path / "data", model=False, settings=[f"server.cors_origins={origin}"]) as server,
        server.api() as api,
    ):
        reply = api.get("/users", headers={"Origin": origin})
        assert reply.status == 200 and reply.headers["Access-Control-Allow-Origin"] == origin
        preflight = api.send(
            "OPTIONS", "/api/v1/users", headers={"Origin": origin, "Access-Control-Request-Method": "POST"}
        )
        assert preflight.status in (200, 204) and "POST" in preflight.headers["Access-Control-Allow-Methods"]
        assert api.get("/users", headers={"Origin": "https://other.example"}).status == 403


# --- reloading -----------------------------------------------------------------------------------


def wait_for_log(server, text, after):
    deadline = time.monotonic() + PATIENCE_S
    while text not in server.log()[after:]:
        assert time.monotonic() < deadline, server.log()
        assert server.is_running(), server.log()
        time.sleep(0.02)
    return server.log()[after:]


@pytest.fixture
def reloadable(tmp_path, file):
    path = file("server:\n  body_max_bytes: 2000\n")
    with Server(tmp_path / "data", model=False, config=path) as server:
        yield server, path


def body_limit_is(server, limit):
    for size, status in ((limit, 201), (limit + 1, 413)):
        with server.api() as api:
            name = f"{server.pid}-{limit}-{time.monotonic_ns()}"
            raw = json.dumps({"name": name, "x": ""}).encode()
            raw = raw.replace(b'""', b'"' + b"x" * (size - len(raw)) + b'"')
            if api.post("/users", raw=raw).status != status:
                return False
    return True


def test_a_signal_reloads_the_settings_and_says_what_changed(reloadable):
    server, path = reloadable
    assert body_limit_is(server, 2000)
    path.write_text("server:\n  body_max_bytes: 3000\n")
    before = len(server.log())
    server.signal(signal.SIGHUP)
    log = wait_for_log(server, "server.body_max_bytes", before)
    assert "2000 -> 3000" in log
    assert body_limit_is(server, 3000)


@pytest.mark.parametrize(
    "text, words",
    [
        ("server:\n  body_max_bytes: 5\n", ["my.yaml:2", "server.body_max_bytes", "1024"]),
        ("server:\n  body_max_bytes: 3000\nlog:\n  level: loud\n", ["my.yaml:4", "log.level"]),
        ("server:\n  body_max_bytes: 3000\n  port: 1\n", ["server.port", "restart"]),
        ("server: [", ["YAML"]),
    ],
)
def test_a_bad_reload_changes_nothing_and_says_why(reloadable, text, words):
    server, path = reloadable
    path.write_text(text)
    before = len(server.log())
    server.signal(signal.SIGHUP)
    log = wait_for_log(server, "not reloaded", before)
    assert all(word in log for word in words), log
    assert body_limit_is(server, 2000)


def test_an_administrator_reloads_over_http(reloadable):
    server, path = reloadable
    with server.api() as api:
        path.write_text("server:\n  body_max_bytes: 4000\n")
        reply = api.post("/admin/reload")
        assert reply.status == 200 and "server.body_max_bytes" in json.dumps(reply.data)
        assert body_limit_is(server, 4000)
        path.write_text("server:\n  body_max_bytes: 1\n")
        reply = api.post("/admin/reload")
        assert reply.status == 400 and "server.body_max_bytes" in reply.message
        assert body_limit_is(server, 4000)
        path.write_text("server:\n  body_max_bytes: 4000\n")
        assert api.post("/admin/reload").status == 200
