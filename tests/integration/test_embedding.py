"""What the encoder is spared, seen through /status of the real program: a text is encoded
once for all users and across restarts, and again when nobody has it any more."""

from harness import Server, run_cli

TEXT = "The ferry to Cacilhas leaves every twenty minutes."
SETTINGS = ("buffer.flush_interval_ms=60000",)


def embedder(api):
    return api.get("/status").data["embedder"]


def store(api, name, *texts):
    """A user of this name with these messages, embedded and committed."""
    user = api.user(name)
    session = api.session(user, api.agent(f"agent of {name}"))
    ids = api.add(session, *texts)
    api.flush(user)
    return user, session, ids


def test_a_text_is_encoded_once_for_all_users_and_across_restarts(tmp_path):
    with Server(tmp_path, settings=SETTINGS) as server, server.api() as api:
        store(api, "ann", TEXT)
        store(api, "bob", TEXT, "Something else.", TEXT)
        figures = embedder(api)
        assert (figures["encoded"], figures["memory_hits"], figures["store_hits"]) == (2, 2, 0)
        assert figures["texts"] == 4
        assert figures["ingest_slices"] == 2
    with Server(tmp_path, settings=SETTINGS) as server, server.api() as api:
        user, session, ids = store(api, "cleo", TEXT)
        figures = embedder(api)
        assert (figures["encoded"], figures["store_hits"]) == (0, 1)
        assert api.query(user, "boats")[0]["content"] == TEXT
        shown = run_cli("status", data=tmp_path).stdout
        lines = dict(line.split(None, 1) for line in shown.splitlines() if line.startswith("embedder."))
        assert lines["embedder.store_hits"].strip() == "1"
        assert lines["embedder.question_queue.waiting"].strip() == "0"
        api.delete(f"/sessions/{session}/messages", {"message_ids": ids})
        for name in ("ann", "bob"):
            found = api.get(f"/users?name={name}").data["users"][0]["id"]
            api.delete(f"/users/{found}")
        store(api, "dora", TEXT)
        figures = embedder(api)
        assert figures["store_hits"] == 1
        assert figures["encoded"] == 2  # the question, and the text nobody had any more


def test_questions_are_answered_while_an_import_is_embedded(tmp_path):
    with Server(tmp_path, settings=SETTINGS) as server, server.api() as api:
        user, _, _ = store(api, "ann", TEXT)
        busy = api.user("busy")
        session = api.session(busy, api.agent("a"))
        for first in range(0, 300, 50):
            api.add(session, *(f"Note {n}: the tide turns at {n} past {n % 24}." for n in range(first, first + 50)))
        for n in range(20):
            answer = api.query(user, f"When does ferry number {n} leave?")
            assert answer[0]["content"] == TEXT
        api.flush(busy)
        figures = embedder(api)
        assert figures["questions"] >= 20
        assert figures["refused"] == figures["expired"] == figures["retried"] == 0
        assert figures["question_queue"]["waiting"] == figures["ingest_queue"]["waiting"] == 0
        assert figures["texts"] == figures["memory_hits"] + figures["store_hits"] + figures["encoded"]


def test_a_stop_calls_off_embedding_and_the_next_start_finishes_it(tmp_path):
    texts = [f"Line {n} of a long log about weather at buoy {n * 7}." for n in range(400)]
    with Server(tmp_path, settings=SETTINGS) as server, server.api() as api:
        user = api.user("ann")
        session = api.session(user, api.agent("a"))
        for first in range(0, len(texts), 100):
            api.add(session, *texts[first : first + 100])
    with Server(tmp_path, settings=SETTINGS) as server, server.api() as api:
        api.flush(user)
        assert api.get("/status").data["store"]["chunks"] == len(texts)
