"""Jobs of the background survive a kill, and those given up are listed, retried and dropped."""

import json
import sqlite3
import time
import uuid

import pytest
from harness import PATIENCE_S, Server, run_cli

NOBODY = bytes(16)
OPEN, DEAD = 1, 3  # states as docs/formats/store-sqlite.md tells them


@pytest.fixture
def server(tmp_path):
    """One that has been started once, so that its store is there, and was stopped."""
    server = Server(tmp_path / "data", model=False)
    with server:
        with server.api() as api:
            server.users = [api.user(f"user {i}") for i in range(4)]
    return server


def put_jobs(server, users, state, kind="purge", error=None):
    """Writes jobs of a kind that every server has a handler for; the server is stopped."""
    ids = []
    with sqlite3.connect(server.data / "memfuse.db") as db:
        for user in users:
            job = uuid.uuid4()
            owner = uuid.UUID(user).bytes if user else NOBODY
            db.execute(
                "INSERT INTO jobs(user_id, id, kind, priority, state, runs, failures, lost,"
                " created_us, due_us, lease_us, error, payload)"
                " VALUES(?, ?, ?, 2, ?, 0, ?, 0, 1, 1, 0, ?, '{}')",
                (owner, job.bytes, kind, state, 4 if state == DEAD else 0, error),
            )
            ids.append(str(job))
    db.close()
    return ids


def jobs_of(api, **parameters):
    query = "&".join(f"{key}={value}" for key, value in {"limit": 100, **parameters}.items())
    reply = api.get(f"/admin/jobs?{query}")
    assert reply.status == 200, reply
    return reply.data["jobs"]


def wait_until(condition):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def gone(api, ids):
    return not {job["id"] for job in jobs_of(api)} & set(ids)


def cli(server, *arguments, code=0):
    done = run_cli("jobs", *arguments, data=server.data)
    assert done.returncode == code, (done.stdout, done.stderr)
    return done


def test_a_store_has_the_periodic_job_once_however_often_it_is_opened(server):
    for _ in range(2):
        with server, server.api() as api:
            jobs = jobs_of(api)
            assert [(job["kind"], job["state"], job["user_id"]) for job in jobs] == [("purge", "open", None)]
            assert api.get("/status").data["jobs"]["open"] == 1


def test_jobs_run_after_a_kill_while_they_ran(server):
    """The process dies inside the first run, at each start, until it is let live."""
    ids = put_jobs(server, server.users, OPEN)
    server.env = {"MEMFUSE_FAULT": "job.run:0:kill"}
    for _ in range(2):
        try:
            server.start()
        except AssertionError:
            pass  # killed before it could say that it was ready
        server.process.wait(PATIENCE_S)
        with sqlite3.connect(server.data / "memfuse.db") as db:
            (left,) = db.execute("SELECT count(*) FROM jobs WHERE kind = 'purge' AND user_id <> ?", (NOBODY,)).fetchone()
        db.close()
        assert left == len(ids)
    server.env = {}
    with server, server.api() as api:
        wait_until(lambda: gone(api, ids))
        jobs = api.get("/status").data["jobs"]
        assert jobs["done"] == len(ids)
        assert jobs["recovered"] >= 1
        assert jobs["dead"] == 0


def test_a_run_that_fails_is_tried_again(server):
    ids = put_jobs(server, server.users[:1], OPEN)
    server.env = {"MEMFUSE_FAULT": "job.run:0:fail"}
    with server, server.api() as api:
        wait_until(lambda: api.get("/status").data["jobs"]["retried"] == 1)
        wait_until(lambda: gone(api, ids))
        jobs = api.get("/status").data["jobs"]
        assert (jobs["failed"], jobs["died"], jobs["done"]) == (1, 0, 1)


def test_a_flush_waits_for_the_users_jobs(server):
    ids = put_jobs(server, server.users[:1], OPEN, kind="layer nobody handles")
    ids += put_jobs(server, server.users[:1], OPEN)
    with server, server.api() as api:
        assert api.post(f"/users/{server.users[0]}/flush").status == 200
        assert [job["id"] for job in jobs_of(api, user_id=server.users[0])] == ids[:1]


def test_dead_jobs_are_listed_retried_and_dropped_by_the_command(server):
    ids = put_jobs(server, server.users, DEAD, error="the disk was full")
    nobodys = put_jobs(server, [None], DEAD)
    with server, server.api() as api:
        listed = cli(server, "list", "--state", "dead").stdout.splitlines()
        assert len(listed) == 5
        assert all("the disk was full" in line for line in listed[:4])
        assert cli(server, "list", "--user", "user 1").stdout.startswith(ids[1])
        assert cli(server, "list", "--kind", "none of them").stdout == ""
        data = json.loads(cli(server, "list", "--state", "dead", "--limit", "2", "--json").stdout)
        assert [job["id"] for job in data["jobs"]] == ids[:2]
        assert {"kind": "purge", "open": 1, "running": 0, "dead": 5} in data["kinds"]
        assert cli(server, "retry", ids[0]).stdout == "retried 1\n"
        wait_until(lambda: gone(api, ids[:1]))
        assert "Say --yes" in cli(server, "drop", ids[1], code=1).stderr
        assert cli(server, "drop", ids[1], "--yes").stdout == "dropped 1\n"
        assert gone(api, ids[1:2])
        assert json.loads(cli(server, "retry", "--all", "--user", "user 2", "--json").stdout) == {"retried": 1}
        wait_until(lambda: gone(api, ids[2:3]))
        assert cli(server, "drop", "--all", "--yes").stdout == "dropped 2\n"
        assert gone(api, ids + nobodys)


def test_the_command_works_without_a_server(server):
    ids = put_jobs(server, server.users[:2], DEAD)
    assert cli(server, "list", "--state", "dead").stdout.count("dead") == 2
    assert cli(server, "drop", *ids, "-y").stdout == "dropped 2\n"
    assert cli(server, "list", "--state", "dead").stdout == ""


def test_bad_questions_name_what_is_wrong(server):
    with server, server.api() as api:
        reply = api.get("/admin/jobs?state=Dead")
        assert (reply.status, reply.field) == (400, "state")
        assert "'open', 'running' or 'dead'" in json.dumps(reply.json)
        for limit in ("0", "-1", "x", ""):
            assert api.get(f"/admin/jobs?limit={limit}").status == 400, limit
        assert api.get(f"/admin/jobs?user_id={uuid.uuid4()}").status == 404
        for job in (str(uuid.uuid4()), "x", "%00", "a" * 3000):
            for method, path in (("POST", f"/admin/jobs/{job}/retry"), ("DELETE", f"/admin/jobs/{job}")):
                assert api.call(method, path).status in (400, 404), (method, job[:40])
        assert "state must be" in cli(server, "list", "--state", "gone", code=1).stderr
        assert "not found" in cli(server, "retry", str(uuid.uuid4()), code=1).stderr
        for wrong in (("burn",), ("retry",), ("drop", "--all", "x"), ("retry", "--state", "dead", "--all")):
            assert "usage: memfuse jobs" in cli(server, *wrong, code=2).stderr


def test_an_add_queues_nothing_while_no_layer_follows(server):
    with server, server.api() as api:
        session = api.session(server.users[0], api.agent("a"))
        body = {"messages": [{"role": "user", "content": "hello"}]}
        reply = api.post(f"/sessions/{session}/messages", body)
        assert reply.status == 201
        assert reply.data["background_queued"] is False
        assert jobs_of(api, user_id=server.users[0]) == []
