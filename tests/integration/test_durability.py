"""What was acknowledged survives: a kill at any moment, a stop under load, a second server.

Eight writers keep a journal of what they sent and what was acknowledged.  After a restart
every acknowledged message is there exactly once and in order, what was never sent is not
there, and what was sent without an answer is there once or not at all.
"""

import http.client
import json
import os
import random
import sqlite3
import threading
import time

import pytest
from harness import PATIENCE_S, Server, run_cli

SEED = int(os.environ.get("MEMFUSE_TEST_SEED") or random.SystemRandom().randrange(1 << 32))
WRITERS = 8
SESSION_MESSAGES = 90  # one listing shows at most 100


class Writer(threading.Thread):
    """Adds rounds of one to three messages until the server goes away."""

    def __init__(self, server, user_id, agent_id, label, progress):
        super().__init__(daemon=True)
        self.server, self.user_id, self.agent_id, self.label = server, user_id, agent_id, label
        self.progress = progress
        self.random = random.Random(f"{SEED}-{label}")
        self.sessions = {}  # session id -> [(text, message id or None when not acknowledged)]
        self.problem = None

    def run(self):
        try:
            with self.server.api() as api:
                self.write(api)
        except (OSError, http.client.HTTPException):
            pass  # the server is gone: what tests of this file bring about
        except Exception as problem:  # noqa: BLE001 - shown by the checker
            self.problem = problem

    def write(self, api):
        number = 0
        while True:
            session = api.session(self.user_id, self.agent_id)
            journal = self.sessions.setdefault(session, [])
            while len(journal) < SESSION_MESSAGES - 3:
                texts = [f"{self.label}x{number + i} keeps a word" for i in range(self.random.randint(1, 3))]
                number += len(texts)
                first = len(journal)
                journal += [(text, None) for text in texts]
                body = {"messages": [{"role": "user", "content": text} for text in texts]}
                reply = api.post(f"/sessions/{session}/messages", body)
                if reply.status == 503:
                    return  # it is stopping
                assert reply.status == 201, reply
                journal[first:] = zip(texts, reply.data["message_ids"], strict=True)
                self.progress.release()


def acknowledged(writers):
    return [
        (w, s, text, message_id)
        for w in writers
        for s, journal in w.sessions.items()
        for text, message_id in journal
        if message_id
    ]


def check(server, writers):
    """The rules above, through the API of a restarted server."""
    with server.api() as api:
        for writer in writers:
            assert writer.problem is None, writer.problem
            for session, journal in writer.sessions.items():
                listed = api.messages(session, order="asc", limit=100)
                texts = [m["content"] for m in listed]
                assert len(set(texts)) == len(texts), "stored twice"
                expected = {text: message_id for text, message_id in journal}
                assert set(texts) <= set(expected), "never sent"
                for message in listed:
                    assert expected[message["content"]] in (None, message["id"])
                missing = [text for text, message_id in journal if message_id and text not in texts]
                assert not missing, f"acknowledged and lost: {missing}"
                order = {text: i for i, (text, _) in enumerate(journal)}
                assert [order[t] for t in texts] == sorted(order[t] for t in texts), "out of order"
        kept = acknowledged(writers)
        for writer, _, text, message_id in random.Random(SEED).sample(kept, min(60, len(kept))):
            hits = api.query(writer.user_id, text.split()[0], store_type="keyword", top_k=3)
            assert [h["id"] for h in hits] == [message_id], text


def check_meaning(server, writers):
    """Every message has its vector in the end, and is found by it."""
    kept = acknowledged(writers)
    with server.api() as api:
        for user in {writer.user_id for writer in writers}:
            api.flush(user)
            stats = api.get(f"/chunks/stats?user_id={user}").data
            assert stats["by_store"]["vector"] == stats["total_chunks"]
            assert stats["total_chunks"] >= sum(writer.user_id == user for writer, *_ in kept)
        for writer, _, text, message_id in random.Random(SEED).sample(kept, min(20, len(kept))):
            hits = api.query(writer.user_id, text, store_type="vector", top_k=50)
            assert message_id in [h["id"] for h in hits], text


def check_file(server):
    """Only while no server runs on it."""
    with sqlite3.connect(server.data / "memfuse.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []


def start_writers(server, users, agent, label):
    progress = threading.Semaphore(0)
    writers = [Writer(server, users[i % len(users)], agent, f"{label}w{i}", progress) for i in range(WRITERS)]
    for writer in writers:
        writer.start()
    return writers, progress


def wait_for_rounds(progress, count):
    for _ in range(count):
        assert progress.acquire(timeout=PATIENCE_S), "the writers stand still"


def join(writers):
    for writer in writers:
        writer.join(PATIENCE_S)
        assert not writer.is_alive()


def test_nothing_acknowledged_is_lost_by_kills_under_load(tmp_path):
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    server = Server(tmp_path / "data")
    everybody = []
    users = agent = None
    for round_number in range(5):
        server.start()
        with server.api() as api:
            users = users or [api.user(f"user {i}") for i in range(3)]
            agent = agent or api.agent("agent")
        check(server, everybody)
        writers, progress = start_writers(server, users, agent, f"r{round_number}")
        wait_for_rounds(progress, chance.randint(20, 120))
        server.kill()
        join(writers)
        everybody += writers
        check_file(server)
    with server:
        check(server, everybody)
        check_meaning(server, everybody)


def test_what_was_saved_from_a_kill_is_found_by_meaning_too(tmp_path):
    facts = [
        "The dentist moved the appointment to Tuesday.",
        "Our neighbour plays the trumpet at night.",
        "The spare tyre is in the garage.",
        "Grandmother's soup needs two bay leaves.",
    ]
    questions = [
        "When do I get my teeth checked?",
        "Who makes music after dark?",
        "Where do I find a wheel for the car?",
        "Which herbs does granny's recipe ask for?",
    ]
    server = Server(tmp_path / "data").start()
    with server.api() as api:
        user = api.user("u")
        session = api.session(user, api.agent("a"))
        ids = [api.add(session, fact)[0] for fact in facts]
    server.kill()
    with server, server.api() as api:
        api.flush(user)
        for question, expected in zip(questions, ids, strict=True):
            assert api.query(user, question, store_type="vector", top_k=1)[0]["id"] == expected, question


def test_a_stop_under_load_loses_nothing_and_ends_well(tmp_path):
    print(f"seed {SEED}")
    server = Server(tmp_path / "data").start()
    with server.api() as api:
        users, agent = [api.user("u")], api.agent("a")
    writers, progress = start_writers(server, users, agent, "s")
    wait_for_rounds(progress, 60)
    assert server.stop() == 0, server.log()
    join(writers)
    check_file(server)
    with server:
        check(server, writers)


def test_a_kill_while_it_recovers_changes_nothing(tmp_path):
    server = Server(tmp_path / "data").start()
    with server.api() as api:
        users, agent = [api.user("u")], api.agent("a")
    writers, progress = start_writers(server, users, agent, "k")
    wait_for_rounds(progress, 40)
    server.kill()
    join(writers)
    for _ in range(4):
        server.start()
        server.kill()
    check_file(server)
    with server:
        check(server, writers)


def test_updates_and_deletes_survive_a_kill(tmp_path):
    server = Server(tmp_path / "data", model=False).start()
    with server.api() as api:
        user = api.user("u")
        session = api.session(user, api.agent("a"))
        ids = api.add(session, "one", "two", "three")
        new = [{"role": "assistant", "content": "TWO"}]
        assert api.put(f"/sessions/{session}/messages", {"message_ids": ids[1:2], "new_messages": new}).status == 200
        assert api.delete(f"/sessions/{session}/messages", {"message_ids": ids[:1]}).status == 200
        known = api.learn(user, "kept", "dropped")
        assert api.delete(f"/users/{user}/knowledge", {"knowledge_ids": known[1:]}).status == 200
    server.kill()
    with server, server.api() as api:
        assert api.texts(session, order="asc") == ["TWO", "three"]
        assert [k["content"] for k in api.get(f"/users/{user}/knowledge").data["knowledge"]] == ["kept"]
        assert api.query(user, "one", store_type="keyword") == []


def test_an_idempotency_key_outlives_a_kill(tmp_path):
    server = Server(tmp_path / "data", model=False).start()
    body = {"messages": [{"role": "user", "content": "once"}]}
    headers = {"Idempotency-Key": "the-key"}
    with server.api() as api:
        session = api.session(api.user("u"), api.agent("a"))
        first = api.post(f"/sessions/{session}/messages", body, headers=headers).data["message_ids"]
    server.kill()
    with server, server.api() as api:
        assert api.post(f"/sessions/{session}/messages", body, headers=headers).data["message_ids"] == first
        assert api.texts(session) == ["once"]


def test_a_second_server_on_the_same_data_refuses_to_start(tmp_path):
    with Server(tmp_path / "data", model=False) as server:
        second = run_cli("serve", "--listen", "127.0.0.1:0", data=server.data)
        assert second.returncode == 1 and "ready" not in second.stdout
        assert "memfuse.lock" in second.stderr and str(server.pid) in second.stderr
        with server.api() as api:
            assert api.get("/users").status == 200


def test_a_port_in_use_is_named(tmp_path):
    with Server(tmp_path / "one", model=False) as server:
        second = run_cli("serve", "--listen", server.addresses[0], data=tmp_path / "two")
        assert second.returncode == 1 and server.addresses[0] in second.stderr


def test_a_data_folder_that_cannot_be_is_named(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    ran = run_cli("serve", "--listen", "127.0.0.1:0", data=tmp_path / "file")
    assert ran.returncode == 1 and str(tmp_path / "file") in ran.stderr


def test_a_store_that_is_no_store_is_named_and_left_alone(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    content = b"this is no database " * 500
    (data / "memfuse.db").write_bytes(content)
    ran = run_cli("serve", "--listen", "127.0.0.1:0", data=data)
    assert ran.returncode == 1 and "memfuse.db" in ran.stderr
    assert (data / "memfuse.db").read_bytes() == content


def test_an_answered_request_is_not_cut_by_a_stop(tmp_path):
    """A request that was under way when the stop came gets its answer."""
    server = Server(tmp_path / "data", model=False).start()
    with server.api() as api:
        session = api.session(api.user("u"), api.agent("a"))
    turns = [{"role": "user", "content": f"line {i} " * 10} for i in range(8000)]
    with server.api() as api:
        raw = json.dumps({"messages": turns}).encode()
        answer = {}

        def ask():
            answer["status"] = api.post(f"/sessions/{session}/messages", raw=raw).status

        asking = threading.Thread(target=ask)
        asking.start()
        with server.api() as watch:
            deadline = time.monotonic() + PATIENCE_S
            while asking.is_alive() and not watch.messages(session):
                assert time.monotonic() < deadline
        assert server.stop() == 0
        asking.join(PATIENCE_S)
    assert answer["status"] == 201


@pytest.mark.parametrize("mode", ["normal", "off"])
def test_relaxed_durability_is_seen_everywhere(tmp_path, mode):
    """Whoever relies on a 201 can tell from the answer, the status and the log that it is weaker."""
    with Server(tmp_path / "data", model=False, settings=[f"store.synchronous={mode}"]) as server:
        with server.api() as api:
            answer = api.post("/users", {"name": "u"})
            assert answer.headers["X-Memfuse-Durability"] == mode
            assert api.get("/status").data["store"]["synchronous"] == mode
        assert "relaxed_durability" in server.log()


def test_full_durability_needs_no_mark(tmp_path):
    with Server(tmp_path / "data", model=False) as server, server.api() as api:
        assert "X-Memfuse-Durability" not in api.post("/users", {"name": "u"}).headers
        assert api.get("/status").data["store"]["synchronous"] == "full"
        assert "relaxed_durability" not in server.log()
