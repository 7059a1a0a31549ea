"""The commands of the program, beside a running server and without one."""

import json
import os
import re
import signal
import subprocess
import time

import pytest
from harness import BINARY, MODEL_DIR, PATIENCE_S, UUID4, Api, Server, clean_environment, model_settings, run_cli

COMMANDS = ["serve", "add", "search", "user", "session", "import", "embed", "status", "memory", "jobs", "model", "bench", "tokenize", "config", "version"]


@pytest.fixture(params=["with a server", "without a server"])
def data(request, tmp_path):
    """A data folder that commands reach through a server, and one that they open themselves."""
    folder = tmp_path / "data"
    if request.param == "without a server":
        yield folder
    else:
        with Server(folder, model=False) as server:
            yield server.data


def run(*arguments, data, **options):
    return run_cli(*arguments, data=data, **options)


def good(ran):
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def wrong(ran, text=None):
    """The command line is wrong: exit code 2, one line that says so, nothing on stdout."""
    assert ran.returncode == 2 and ran.stdout == "" and ran.stderr.startswith("memfuse: "), ran
    assert text is None or text in ran.stderr


def failure(ran, text):
    assert ran.returncode == 1 and ran.stdout == "" and ran.stderr.startswith("memfuse: "), ran
    assert text in ran.stderr


# --- add and search ------------------------------------------------------------------------------


def test_a_message_is_added_and_found(data):
    made = good(run("add", "--user", "Zoë & co", "The blue folder holds the contract.", data=data)).strip()
    assert UUID4.fullmatch(made)
    found = good(run("search", "--user", "Zoë & co", "which folder?", data=data))
    assert "The blue folder holds the contract." in found
    reply = json.loads(good(run("search", "--json", "-u", "Zoë & co", "-k", "1", "folder", "contract", data=data)))
    assert reply["total"] == 1 and reply["results"][0]["id"] == made


def test_a_message_is_read_from_standard_input(data):
    reply = json.loads(
        good(
            run(
                "add",
                "--json",
                "-u",
                "u",
                "-s",
                "notes",
                "-r",
                "system",
                "-",
                data=data,
                stdin="first line\nsecond 🦊\n",
            )
        )
    )
    assert len(reply["message_ids"]) == 1
    listed = json.loads(good(run("session", "--json", "-u", "u", "messages", "notes", data=data)))
    assert [(m["role"], m["content"]) for m in listed["messages"]] == [("system", "first line\nsecond 🦊")]


def test_words_of_a_message_are_joined(data):
    good(run("add", "-u", "u", "three", "plain", "words", data=data))
    assert "three plain words" in good(run("session", "-u", "u", "messages", "default", data=data))


def test_search_narrows_by_session_agent_and_way(data):
    good(run("add", "-u", "u", "-s", "one", "-a", "first", "a heron stood in the pond", data=data))
    good(run("add", "-u", "u", "-s", "two", "-a", "second", "a heron flew over the town", data=data))
    reply = json.loads(good(run("search", "--json", "-u", "u", "-s", "one", "heron", data=data)))
    assert {r["metadata"]["session_name"]: r["metadata"]["scope"] for r in reply["results"]} == {
        "one": "in_session",
        "two": "cross_session",
    }
    reply = json.loads(good(run("search", "--json", "-u", "u", "-a", "second", "--by", "keyword", "heron", data=data)))
    assert [r["content"] for r in reply["results"]] == ["a heron flew over the town"]
    assert good(run("search", "-u", "u", "--by", "keyword", "zeppelin", data=data)) == "nothing found\n"


def test_wrong_uses_of_add_and_search_say_what_is_missing(tmp_path):
    data = tmp_path / "data"
    wrong(run("add", "text", data=data), "--user")
    wrong(run("search", "text", data=data), "--user")
    wrong(run("search", "-u", "u", data=data), "question")
    for number in ("many", "1x", "", "99999999999999999999"):
        wrong(run("search", "-u", "u", "-k", number, "text", data=data), "--top-k")
    assert not data.exists(), "a wrong command line touches nothing"


def test_failures_of_add_and_search_give_the_reason(data):
    good(run("add", "-u", "u", "x", data=data))
    failure(run("search", "-u", "nobody", "x", data=data), "there is no user 'nobody'")
    failure(run("search", "-u", "u", "-s", "nowhere", "x", data=data), "there is no session 'nowhere'")
    failure(run("search", "-u", "u", "-a", "none", "x", data=data), "there is no agent 'none'")
    failure(run("search", "-u", "u", "--by", "magic", "x", data=data), "store_type")
    failure(run("search", "-u", "u", "--sort", "length", "x", data=data), "sort_by")
    failure(run("search", "-u", "u", "--order", "up", "x", data=data), "order")
    good(run("search", "-u", "u", "--sort", "timestamp", "--order", "asc", "x", data=data))
    failure(run("add", "-u", "u", "-r", "robot", "x", data=data), "role")
    failure(run("add", "-u", "u", "", data=data), "content")


# --- user and session ----------------------------------------------------------------------------


def test_users_are_created_listed_renamed_and_deleted(data):
    made = good(run("user", "create", "Ann", data=data)).strip()
    assert UUID4.fullmatch(made)
    assert re.search(rf"^{made}  \S+  Ann$", good(run("user", "list", data=data)), re.M)
    assert good(run("user", data=data)) == good(run("user", "list", data=data))
    good(run("user", "rename", "Ann", "Bea", data=data))
    listed = json.loads(good(run("user", "--json", "list", data=data)))["users"]
    assert [(u["id"], u["name"]) for u in listed] == [(made, "Bea")]
    failure(run("user", "create", "Bea", data=data), "already exists")
    failure(run("user", "delete", "Bea", data=data), "--yes")
    assert json.loads(good(run("user", "delete", "--json", "--yes", "Bea", data=data))) == {"user_id": made}
    failure(run("user", "delete", "-y", "Bea", data=data), "there is no user 'Bea'")
    assert good(run("user", "list", data=data)) == ""


def test_sessions_are_listed_read_and_deleted(data):
    for i in range(3):
        good(run("add", "-u", "u", "-s", "log", f"entry {i}", data=data))
    good(run("add", "-u", "u", "-s", "other", "x", data=data))
    listed = good(run("session", "-u", "u", "list", data=data)).splitlines()
    assert [line.split("  ")[-1] for line in listed] == ["other", "log"]
    shown = good(run("session", "-u", "u", "-n", "2", "messages", "log", data=data)).splitlines()
    assert [line.split(": ")[-1] for line in shown] == ["entry 1", "entry 2"]
    failure(run("session", "-u", "u", "-n", "none", "messages", "log", data=data), "imit")
    failure(run("session", "-u", "u", "delete", "log", data=data), "--yes")
    good(run("session", "-u", "u", "-y", "delete", "log", data=data))
    failure(run("session", "-u", "u", "messages", "log", data=data), "there is no session 'log'")


@pytest.mark.parametrize(
    "arguments",
    [
        ["user", "create"],
        ["user", "list", "x"],
        ["user", "rename", "a"],
        ["user", "delete"],
        ["user", "paint", "a"],
        ["session", "list"],
        ["session", "-u", "u", "messages"],
        ["session", "-u", "u", "delete"],
        ["session", "-u", "u", "paint"],
        ["import"],
        ["import", "a", "b"],
        ["model", "paint"],
        ["model", "info", "a", "b"],
        ["model", "list", "a"],
        ["model", "pull"],
        ["embed", "a"],
        ["serve", "now"],
        ["config", "--format", "xml"],
        ["config", "no.such.key"],
        ["nonsense"],
        ["add", "--nonsense"],
        ["search", "-u"],
        ["status", "--json=yes"],
        ["help", "nonsense"],
    ],
)
def test_a_wrong_command_line_is_exit_code_2(tmp_path, arguments):
    wrong(run_cli(*arguments, cwd=tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_no_command_is_a_wrong_command_line_that_shows_the_commands(tmp_path):
    ran = run_cli(cwd=tmp_path)
    assert ran.returncode == 2 and ran.stdout == "" and "Usage: memfuse COMMAND" in ran.stderr


def test_help_explains_every_command(tmp_path):
    overview = good(run_cli("help"))
    assert overview == good(run_cli("--help")) == good(run_cli("-h"))
    for command in COMMANDS:
        assert re.search(rf"^  {command} ", overview, re.M)
        text = good(run_cli(command, "--help", cwd=tmp_path))
        assert text.startswith(f"Usage: memfuse {command}") and "--json" in text and "--data" in text
        assert good(run_cli("help", command)) == text
    assert list(tmp_path.iterdir()) == []


def test_the_version_is_told_the_same_everywhere(tmp_path):
    version = json.loads(good(run_cli("version", "--json")))["version"]
    assert re.fullmatch(r"0\.3\.\d+", version)
    assert good(run_cli("version")) == good(run_cli("--version")) == f"memfuse {version}\n"
    with Server(tmp_path / "data", model=False) as server, server.api() as api:
        assert api.get("/health").data["version"] == version
        assert api.get("/status").data["version"] == version


# --- status and model ----------------------------------------------------------------------------


def test_status_counts_what_is_stored(data):
    for text in ("one", "two"):
        good(run("add", "-u", "u", text, data=data))
    status = json.loads(good(run("status", "--json", data=data)))
    assert (status["store"]["users"], status["store"]["sessions"], status["store"]["messages"]) == (1, 1, 2)
    assert status["model"] is None and status["token_counter"] == "estimate"
    text = good(run("status", data=data))
    assert re.search(r"^store\.messages +2$", text, re.M)
    running = "running" if (data / "memfuse.sock").exists() and status["users_active"]["count"] else None
    assert re.search(r"^memfuse +(running|not running; opened for this command)$", text, re.M), running


def test_status_tells_the_model_and_exact_tokens(tmp_path):
    status = json.loads(good(run_cli("status", "--json", data=tmp_path / "data", settings=model_settings())))
    assert status["token_counter"] == "exact"
    assert (status["model"]["name"], status["model"]["dim"], status["model"]["layers"]) == ("all-MiniLM-L6-v2", 384, 6)


def test_models_are_listed_and_checked(tmp_path):
    models = tmp_path / "data" / "models"
    models.mkdir(parents=True)
    assert "no model in" in good(run_cli("model", data=tmp_path / "data"))
    assert json.loads(good(run_cli("model", "list", "--json", data=tmp_path / "data"))) == []
    (models / "all-MiniLM-L6-v2").symlink_to(MODEL_DIR)
    assert good(run_cli("model", "list", data=tmp_path / "data")).startswith("all-MiniLM-L6-v2 ")
    info = json.loads(good(run_cli("model", "info", "--json", data=tmp_path / "data")))
    assert (info["dim"], info["layers"], info["heads"]) == (384, 6, 12)
    words = tmp_path / "words"
    words.write_text("".join(f"{word}\n" for word in ("sea", "harbour", "ship", "bread", "oven", "flour")))
    assert good(run_cli("model", "verify", MODEL_DIR, "--sentences", words)).endswith(": sound\n")


def test_a_damaged_model_is_refused_by_name(tmp_path):
    folder = tmp_path / "broken"
    folder.mkdir()
    for file in MODEL_DIR.iterdir():
        if file.is_file() and file.name != "model.safetensors":
            (folder / file.name).write_bytes(file.read_bytes())
    with open(MODEL_DIR / "model.safetensors", "rb") as source:
        (folder / "model.safetensors").write_bytes(source.read(1_000_000))
    failure(run_cli("model", "verify", folder), "model.safetensors")
    failure(run_cli("model", "info", tmp_path / "nothing"), "nothing")
    failure(run_cli("status", data=tmp_path / "data", settings=[f"model.dir={folder}"]), "model.safetensors")
    failure(run_cli("status", data=tmp_path / "data", settings=[f"model.dir={tmp_path}/none"]), "model.dir")


# --- import --------------------------------------------------------------------------------------


def line(**fields):
    return json.dumps({"user": "u", "session": "s", "role": "user", "content": "text", **fields}) + "\n"


def test_json_lines_are_imported_in_order(data, tmp_path):
    file = tmp_path / "messages.jsonl"
    file.write_text(
        "".join(
            [
                line(content="one", created_at="2024-02-03T04:05:06Z", metadata={"page": 1}),
                "\n",
                line(content="two", role="assistant", round="r1"),
                line(content="three", round="r1"),
                line(content="elsewhere", session="t", agent="other"),
                line(content="somebody else's", user="v"),
                line(content="last", colour="ignored").rstrip("\n"),
            ]
        )
    )
    assert good(run("import", file, data=data)) == "6 messages imported\n"
    listed = json.loads(good(run("session", "--json", "-u", "u", "messages", "s", data=data)))["messages"][::-1]
    assert [m["content"] for m in listed] == ["one", "two", "three", "last"]
    assert listed[0]["created_at"] == "2024-02-03T04:05:06.000000Z" and listed[0]["metadata"] == {"page": 1}
    assert "somebody else's" in good(run("search", "-u", "v", "somebody", data=data))


def test_import_reads_standard_input_and_many_lines(data):
    many = "".join(line(content=f"number{i} of the import") for i in range(2500))
    assert json.loads(good(run("import", "--json", "-", data=data, stdin=many))) == {"imported": 2500}
    assert json.loads(good(run("status", "--json", data=data)))["store"]["messages"] == 2500
    assert "number2499 " in good(run("search", "-u", "u", "--by", "keyword", "number2499", data=data))


@pytest.mark.parametrize(
    "number, bad, reason",
    [
        (1, "nonsense\n", "JSON"),
        (3, line(role="robot"), "role"),
        (5, '{"user":"u"}\n', "session"),
        (7, line(content=""), "content"),
        (1200, line(created_at="yesterday"), "created_at"),
        (1001, "[]\n", "object"),
    ],
)
def test_a_bad_line_is_named_by_file_and_number(data, tmp_path, number, bad, reason):
    file = tmp_path / "messages.jsonl"
    lines = [line(content=f"line {i}") for i in range(1, 1500)]
    lines[number - 1] = bad
    file.write_text("".join(lines))
    ran = run("import", file, data=data)
    failure(ran, f"{file}:{number}: ")
    assert reason in ran.stderr
    whole_batches = (number - 1) // 1000 * 1000
    assert f"{whole_batches} messages" in ran.stderr
    assert json.loads(good(run("status", "--json", data=data)))["store"]["messages"] == whole_batches


def test_a_file_that_is_not_there_is_named(data, tmp_path):
    failure(run("import", tmp_path / "none.jsonl", data=data), "none.jsonl")


# --- serve ---------------------------------------------------------------------------------------


def test_serve_prints_every_address_it_accepts_on(tmp_path):
    with Server(tmp_path / "data", model=False, listen=["127.0.0.1:0", "[::1]:0"]) as server:
        assert [re.sub(r"\d+$", "N", a) for a in server.addresses] == ["127.0.0.1:N", "[::1]:N"]
        for address in server.addresses:
            host, port = address.rsplit(":", 1)
            with server.api() as api:
                api.connection.host, api.connection.port = host.strip("[]"), int(port)
                assert api.get("/health").status == 200


def test_localhost_is_both_loopback_addresses_on_one_port(tmp_path):
    with Server(tmp_path / "data", model=False, listen=["localhost:0"]) as server:
        for host in ("127.0.0.1", "::1", "localhost"):
            with Api((host, server.address[1])) as api:
                assert api.get("/health").status == 200


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "192.0.2.1:0", "127.example.org:0"])
def test_other_machines_are_not_served_without_keys(tmp_path, address):
    ran = run_cli("serve", "--listen", address, data=tmp_path / "data")
    failure(ran, address)
    assert "server.api_key_validation" in ran.stderr


@pytest.mark.parametrize(
    "address", ["nonsense", "127.0.0.1", "127.0.0.1:port", "127.0.0.1:70000", "127.0.0.1:-1", ":0", ""]
)
def test_an_address_that_is_none_is_refused(tmp_path, address):
    ran = run_cli("serve", "--listen", address, data=tmp_path / "data")
    assert ran.returncode in (1, 2) and "ready" not in ran.stdout and ran.stderr.startswith("memfuse: "), ran


def test_an_interrupt_stops_it_like_a_termination(tmp_path):
    server = Server(tmp_path / "data", model=False).start()
    server.signal(signal.SIGINT)
    assert server.wait() == 0


def test_a_restart_on_the_same_port_and_data_is_ready_again(tmp_path):
    server = Server(tmp_path / "data", model=False).start()
    with server.api() as api:
        user = api.user("kept")
    address = server.addresses[0]
    assert server.stop() == 0
    server.listen = [address]
    with server, server.api() as api:
        assert server.addresses == [address]
        assert api.get("/users?name=kept").data["users"][0]["id"] == user


def test_a_socket_left_by_a_kill_does_not_mislead_a_command(tmp_path):
    server = Server(tmp_path / "data", model=False).start()
    with server.api() as api:
        api.user("kept")
    server.kill()
    assert "kept" in good(run_cli("user", "list", data=server.data))
    with server:
        assert "kept" in good(run_cli("user", "list", data=server.data))


def test_the_data_folder_is_private(tmp_path):
    with Server(tmp_path / "data", model=False) as server:
        assert os.stat(server.data / "memfuse.sock").st_mode & 0o777 == 0o600
        assert os.stat(server.data / "memfuse.db").st_mode & 0o077 == 0


def test_the_log_holds_no_message_text(tmp_path):
    with Server(tmp_path / "data", model=False) as server, server.api() as api:
        session = api.session(api.user("u"), api.agent("a"))
        api.add(session, "the-secret-of-the-house")
        api.query(api.get("/users").data["users"][0]["id"], "the-secret-of-the-house")
        api.post(f"/sessions/{session}/messages", raw=b'{"messages":"the-secret-of-the-house"')
    assert "the-secret-of-the-house" not in server.log()


def test_a_reader_that_leaves_is_no_failure_of_the_data(tmp_path):
    for i in range(3):
        good(run_cli("user", "create", f"user {i}", data=tmp_path / "data"))
    child = subprocess.Popen(
        [str(BINARY), "user", "list", "--data", str(tmp_path / "data")], stdout=subprocess.PIPE, env=clean_environment()
    )
    child.stdout.close()
    child.wait(PATIENCE_S)
    assert len(good(run_cli("user", "list", data=tmp_path / "data")).splitlines()) == 3


def test_a_bar_shows_progress_on_a_terminal_only(tmp_path):
    file = tmp_path / "messages.jsonl"
    file.write_text("".join(line(content=f"line {i}") for i in range(2100)))
    assert run_cli("import", file, data=tmp_path / "data").stderr == ""
    master, slave = os.openpty()
    child = subprocess.Popen(
        [str(BINARY), "import", str(file), "--data", str(tmp_path / "data2")],
        stdout=subprocess.PIPE,
        stderr=slave,
        env=clean_environment(),
    )
    os.close(slave)
    shown = b""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            piece = os.read(master, 4096)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    os.close(master)
    assert child.wait(PATIENCE_S) == 0 and child.stdout.read() == b"2100 messages imported\n"
    child.stdout.close()
    assert b"importing [" in shown and b"100 %" in shown
