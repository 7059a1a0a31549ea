"""Flushing over HTTP: windows are emptied for good, bypass has none, the status tells why."""

import pytest
from harness import Server

SETTINGS = ("buffer.flush_interval_ms=3600000",)


def parts(api, session):
    """What a client sees of a session: the window, the rest, and that they are all of it."""
    window = api.texts(session, buffer_only="true", limit=100)
    rest = api.texts(session, buffer_only="false", limit=100)
    assert window + rest == api.texts(session, limit=100)
    return len(window), len(rest)


def status(api):
    reply = api.get("/status")
    assert reply.status == 200, reply
    return reply.data


@pytest.mark.parametrize("model", [False, True])
def test_a_flush_empties_the_windows_for_good_and_tells_what_it_did(tmp_path, model):
    server = Server(tmp_path / "data", settings=SETTINGS, model=model)
    with server, server.api() as api:
        user, agent = api.user("ann"), api.agent("helper")
        one, two = api.session(user, agent), api.session(user, agent)
        for i in range(7):
            api.add(one, f"question {i}", f"answer {i}")
        api.add(two, "hello")
        assert parts(api, one) == (10, 4)
        reply = api.post(f"/users/{user}/flush")
        assert reply.status == 200, reply
        assert reply.data["user_id"] == user
        assert reply.data["rounds_transferred"] == 6
        assert 0 <= reply.data["vectors_committed"] <= 15
        assert parts(api, one) == (0, 14) and parts(api, two) == (0, 1)
        assert status(api)["store"]["chunks"] == (15 if model else 0)
        assert status(api)["round"]["transfer_triggers"]["manual"] == 1
        assert status(api)["hybrid"]["chunk_count"] == 0
        server.kill()
    with server, server.api() as api:
        assert parts(api, one) == (0, 14) and parts(api, two) == (0, 1)
        api.add(one, "and on")
        assert parts(api, one) == (1, 14)


def test_bypass_has_no_windows_and_the_environment_wins_over_the_file(tmp_path):
    file = tmp_path / "my.yaml"
    for in_file, variable, bypass in (("true", "false", True), ("false", "true", False)):
        file.write_text(f"buffer:\n  enabled: {in_file}\n")
        server = Server(tmp_path / f"data-{variable}", config=file, settings=SETTINGS,
                        env={"MEMFUSE_BUFFER_ENABLED": variable})
        with server, server.api() as api:
            user, agent = api.user("ann"), api.agent("helper")
            session = api.session(user, agent)
            for i in range(3):
                api.add(session, f"a train of thought, number {i}")
            assert parts(api, session) == ((0, 3) if bypass else (3, 0))
            found = api.query(user, "a train of thought, number 2")
            assert found[0]["content"] == "a train of thought, number 2"
            api.flush(user)
            counts = status(api)
            assert counts["store"]["chunks"] == 3
            assert counts["round"]["transfer_triggers"]["immediate"] == (3 if bypass else 0)
            assert counts["flush"]["triggers"]["immediate"] == 0 or bypass
            assert parts(api, session) == (0, 3)


def test_an_import_stores_rounds_of_a_user_together(tmp_path):
    lines = [f'{{"user":"u{i // 6}","session":"s{i % 2}","role":"user","content":"text {i}"}}'
             for i in range(12)]
    writes = {}
    for threshold in (1, 4):
        settings = (*SETTINGS, f"buffer.flush.batch_write_threshold={threshold}")
        with Server(tmp_path / f"data{threshold}", settings=settings, model=False) as server:
            with server.api() as api:
                before = status(api)["writer"]["operations"]
                reply = api.post("/import", raw="\n".join(lines).encode())
                assert reply.status == 200 and reply.data["imported"] == 12, reply
                counts = status(api)
                writes[threshold] = counts["writer"]["operations"] - before
                assert counts["write"]["total_writes"] == 12
                for name in ("u0", "u1"):
                    user = api.get(f"/users?name={name}").data["users"][0]["id"]
                    sessions = api.get(f"/sessions?user_id={user}").data["sessions"]
                    assert sorted(len(api.texts(s["id"])) for s in sessions) == [3, 3]
    assert writes[1] - writes[4] == 12 - 4  # six rounds of a user: writes of four and of two
