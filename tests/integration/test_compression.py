"""Packed texts: nobody sees a difference but the file, whatever happens meanwhile."""

import contextlib
import random
import sqlite3
import time

from harness import PATIENCE_S, Server

SETTINGS = (
    "store.compression=zstd",
    "store.compress_after_messages=0",
    "store.compress_after_s=0",
    "store.compress_every_s=1",
)
WORDS = "the trip to Japan in May we will think about it because my sister said that it was great".split()
LIST = 50
SECRET = "the code of the safe is 9174"


def long_text(chance, label):
    return f"{label}: " + " ".join(chance.choice(WORDS) for _ in range(120))


def tell(api, session, chance, label, lists=20):
    """Enough text to train a dictionary on; returns it in order."""
    told = []
    for number in range(lists):
        texts = [long_text(chance, f"{label}.{number}.{i}") for i in range(LIST)]
        api.add(session, *texts)
        told += texts
    return told


def listed(server, session):
    """All texts of the session as a client reads them, page by page, oldest first."""
    with server.api() as api:
        newest = api.get(f"/sessions/{session}/messages?order=desc&limit=100").data["messages"]
        oldest = api.get(f"/sessions/{session}/messages?order=asc&limit=100").data["messages"]
    return [m["content"] for m in oldest], [m["content"] for m in reversed(newest)]


def assert_told(server, session, told):
    oldest, newest = listed(server, session)
    assert oldest == told[:100]
    assert newest == told[-100:]


def in_store(server, statement):
    path = f"file:{server.data / 'memfuse.db'}?mode=ro"
    with contextlib.closing(sqlite3.connect(path, uri=True, timeout=PATIENCE_S)) as connection:
        return connection.execute(statement).fetchone()[0]


def packed(server):
    return in_store(server, "SELECT count(*) FROM messages WHERE packed IS NOT NULL")


def wait_until(condition, what):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def server_of(tmp_path, settings=SETTINGS):
    return Server(tmp_path / "data", settings=settings, model=False)


def test_old_texts_are_packed_and_read_back(tmp_path):
    chance = random.Random(1)
    server = server_of(tmp_path).start()
    with server.api() as api:
        user = api.user("u")
        session = api.session(user, api.agent("a"))
        told = tell(api, session, chance, "first")
        wait_until(lambda: packed(server) == len(told), "texts stay plain")
        assert in_store(server, "SELECT count(*) FROM text_dictionaries") == 1
        frames = in_store(server, "SELECT sum(length(packed)) FROM messages")
        assert frames * 2 < sum(len(text) for text in told)
        assert in_store(server, "SELECT max(length(content)) FROM messages") == 0
        assert_told(server, session, told)
        hits = api.query(user, told[17], top_k=3)
        assert hits[0]["content"] == told[17]

        # An edit is there at once, and packed later.
        message = api.messages(session, order="asc", limit=100)[5]["id"]
        told[5] = long_text(chance, "edited")
        reply = api.put(
            f"/sessions/{session}/messages",
            {"message_ids": [message], "new_messages": [{"role": "user", "content": told[5]}]},
        )
        assert reply.status == 200, reply
        assert_told(server, session, told)
        wait_until(lambda: packed(server) == len(told), "the edited text stays plain")
        assert_told(server, session, told)
    server.stop()
    with server_of(tmp_path, settings=()) as server:  # the setting does not matter for reading
        assert_told(server, session, told)
        assert packed(server) == len(told)
    server.check_log()


def test_kills_while_texts_are_packed_lose_nothing(tmp_path):
    chance = random.Random(2)
    told, session = [], None
    for number in range(4):
        server = server_of(tmp_path).start()
        with server.api() as api:
            session = session or api.session(api.user("u"), api.agent("a"))
            told += tell(api, session, chance, f"r{number}", lists=12)
            before = packed(server)
            if number > 0:
                wait_until(lambda seen=before: packed(server) > seen, "nothing is packed")
        server.kill()
        assert in_store(server, "PRAGMA integrity_check") == "ok"
    with server_of(tmp_path) as server:
        assert_told(server, session, told)
        wait_until(lambda: packed(server) == len(told), "texts stay plain")
        assert_told(server, session, told)


def test_a_deleted_text_is_in_no_file(tmp_path):
    chance = random.Random(3)
    server = server_of(tmp_path).start()
    with server.api() as api:
        user = api.user("u")
        session = api.session(user, api.agent("a"))
        (secret,) = api.add(session, f"{SECRET} {long_text(chance, 'x')}")
        told = tell(api, session, chance, "first")
        wait_until(lambda: packed(server) == len(told) + 1, "texts stay plain")
        assert api.delete(f"/sessions/{session}/messages", {"message_ids": [secret]}).status == 200
    server.stop()
    with server_of(tmp_path) as server:
        assert_told(server, session, told)
        dictionary = in_store(server, "SELECT bytes FROM text_dictionaries")
        assert b"trip" in dictionary and b"9174" not in dictionary
    for file in server.data.iterdir():
        if file.is_file():
            content = file.read_bytes()
            assert b"9174" not in content and b"the code of the safe" not in content, file


def test_a_damaged_text_is_an_error_that_names_its_message(tmp_path):
    chance = random.Random(4)
    server = server_of(tmp_path).start()
    with server.api() as api:
        session = api.session(api.user("u"), api.agent("a"))
        told = tell(api, session, chance, "first")
        wait_until(lambda: packed(server) == len(told), "texts stay plain")
    server.stop()
    with contextlib.closing(sqlite3.connect(server.data / "memfuse.db")) as connection:
        connection.execute("UPDATE messages SET packed = zeroblob(40) WHERE num = 3")
        connection.commit()
    server.start()
    with server.api() as api:
        reply = api.get(f"/sessions/{session}/messages?order=asc&limit=100")
        assert reply.status == 500
        others = api.get(f"/sessions/{session}/messages?order=desc&limit=100")
        assert [m["content"] for m in reversed(others.data["messages"])] == told[-100:]
    server.stop()
    assert "the text of message 3 cannot be read" in server.log()
