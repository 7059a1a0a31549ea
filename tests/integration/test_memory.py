"""Memory is bounded: a small budget is kept while thousands of users come by and nothing is
lost; what does not fit is refused with 503; the administrator sees and frees."""

import itertools
import json
import re
import threading
import time

import pytest
from harness import PATIENCE_S, Server, run_cli

BUDGET_MB = 48
USERS = 2000
WORKERS = 4
SERVER = {
    "settings": [
        f"memory.budget_mb={BUDGET_MB}",
        "server.rate_limit_per_minute=0",
        "log.level=warn",
    ]
}


def memory(api):
    reply = api.get("/admin/memory")
    assert reply.status == 200, reply
    return reply.data


def insist(api, method, path, body=None):
    """The reply that is no 503; a 503 says when to come back."""
    deadline = time.monotonic() + PATIENCE_S
    while (reply := api.call(method, path, body)).status == 503:
        assert int(reply.headers["Retry-After"]) >= 1, reply
        assert time.monotonic() < deadline, reply
        time.sleep(0.05)
    return reply


def in_threads(work, count=WORKERS):
    """Runs work(number) in threads and raises the first failure."""
    failures = []

    def run(number):
        try:
            work(number)
        except BaseException as failure:  # noqa: BLE001 - raised again below
            failures.append(failure)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def text_of(number):
    return f"user {number} keeps parrot number {number} " + f"and word{number} " * 120


def test_the_budget_is_kept_while_thousands_of_users_come_and_nothing_is_lost(server, api):
    agent = api.agent("assistant")
    acknowledged = {}
    most = []

    def visit(worker):
        with server.api() as own:
            for number in range(worker, USERS, WORKERS):
                user = insist(own, "POST", "/users", {"name": f"user {number}"}).data["user"]["id"]
                body = {"user_id": user, "agent_id": agent}
                session = insist(own, "POST", "/sessions", body).data["session"]["id"]
                message = {"role": "user", "content": text_of(number)}
                path = f"/sessions/{session}/messages"
                reply = insist(own, "POST", path, {"messages": [message]})
                acknowledged[session] = (number, reply.data["message_ids"])
                if number % 10 == 0:
                    insist(own, "POST", f"/users/{user}/query", {"query": "parrot"})
                    most.append(memory(own)["budget"]["used_mb"])

    in_threads(visit)
    assert len(acknowledged) == USERS
    assert max(most) <= BUDGET_MB
    assert memory(api)["budget"]["used_mb_max"] <= BUDGET_MB
    for session, (number, ids) in acknowledged.items():
        reply = insist(api, "GET", f"/sessions/{session}/messages")
        assert [m["id"] for m in reply.data["messages"]] == ids
        assert reply.data["messages"][0]["content"] == text_of(number)


def test_under_pressure_users_leave_and_caches_shrink(tmp_path):
    """Goes on until the guard had to act.  Without a model, so that texts of many words are
    quickly in the indexes."""
    numbers = itertools.count()
    deadline = time.monotonic() + PATIENCE_S

    def visit(server, agent):
        with server.api() as own:
            while memory(own)["budget"]["reliefs"] == 0 and time.monotonic() < deadline:
                number = next(numbers)
                name = {"name": f"pressing {number}"}
                user = insist(own, "POST", "/users", name).data["user"]["id"]
                body = {"user_id": user, "agent_id": agent}
                session = insist(own, "POST", "/sessions", body).data["session"]["id"]
                text = "parrot " + " ".join(f"word{number}x{n}" for n in range(2000))
                insist(own, "POST", f"/sessions/{session}/messages", one(text))
                found = insist(own, "POST", f"/users/{user}/query", {"query": "parrot"})
                assert len(found.data["results"]) == 1

    with Server(tmp_path, model=False, **SERVER) as server:
        with server.api() as api:
            agent = api.agent("assistant")
        in_threads(lambda _: visit(server, agent))
        with server.api() as api:
            budget = memory(api)["budget"]
    assert budget["reliefs"] > 0
    assert budget["users_left"] + budget["cache_entries_dropped"] > 0
    assert budget["used_mb_max"] <= BUDGET_MB


def test_what_does_not_fit_is_refused_and_the_rest_goes_on(server, api, session, user):
    large = {"messages": [{"role": "user", "content": "x" * 4_000_000} for _ in range(3)]}
    reply = api.post(f"/sessions/{session}/messages", large)
    assert reply.status == 503
    assert int(reply.headers["Retry-After"]) >= 1
    assert "memory.budget_mb" in reply.message
    assert memory(api)["budget"]["refused"] >= 1
    assert api.get("/health").status == 200
    assert insist(api, "POST", f"/sessions/{session}/messages", one("small")).status == 201
    assert api.texts(session) == ["small"]
    assert api.delete(f"/users/{user}").status == 200


def one(text):
    return {"messages": [{"role": "user", "content": text}]}


def test_many_large_requests_at_once_end_in_201_or_503_and_then_all_is_well(tmp_path):
    accepted = []
    refused = []

    def press(server, session, worker):
        with server.api() as own:
            for turn in range(2):
                body = one(f"{worker} {turn} " + "y" * 1_000_000)
                reply = own.post(f"/sessions/{session}/messages", body)
                assert reply.status in (201, 503), reply
                if reply.status == 201:
                    accepted.append(reply.data["message_ids"][0])
                else:
                    assert int(reply.headers["Retry-After"]) >= 1
                    refused.append(turn)

    with Server(tmp_path / "data", **SERVER) as server, server.api() as api:
        session = api.session(api.user("ann"), api.agent("assistant"))
        in_threads(lambda worker: press(server, session, worker), 8)
        assert len(accepted) + len(refused) == 16
        path = f"/sessions/{session}/messages"
        assert insist(api, "POST", path, one("afterwards")).status == 201
        for number in accepted:
            reply = insist(api, "POST", path + "/read", {"message_ids": [number]})
            assert reply.status == 200
        assert insist(api, "GET", path + "?limit=100").status == 200


def test_every_reply_has_the_three_headers(api, user):
    for reply in (api.get("/health"), api.get(f"/users/{user}"), api.get("/users/nobody")):
        for name in ("X-Memory-Usage-MB", "X-Memory-Delta-MB", "X-Request-Duration-MS"):
            assert re.fullmatch(r"-?\d+\.\d\d", reply.headers[name]), name
        assert 0 < float(reply.headers["X-Memory-Usage-MB"]) < 1000


def test_a_forced_cleanup_reports_and_drops_cache_entries(api, session, user):
    insist(api, "POST", f"/sessions/{session}/messages", one("something to find"))
    insist(api, "POST", f"/users/{user}/query", {"query": "something"})
    assert memory(api)["cache_stats"]["size"] > 0
    before = memory(api)["cleanup"]["total_cleanups"]
    reply = api.post("/admin/memory/cleanup")
    assert reply.status == 200
    report = reply.data
    assert set(report) == {
        "forced",
        "memory_before_mb",
        "memory_after_mb",
        "memory_freed_mb",
        "objects_collected",
        "duration_seconds",
        "cleanup_count",
    }
    assert report["forced"] is True
    assert report["objects_collected"] > 0
    assert report["cleanup_count"] == before + 1
    cleanup = memory(api)["cleanup"]
    assert cleanup["total_cleanups"] == before + 1
    assert cleanup["last_cleanup"].endswith("Z")
    assert api.query(user, "something")[0]["content"] == "something to find"


def test_reset_drops_the_records(api, user):
    assert api.get("/users/nobody").status == 404
    recent = api.get("/admin/memory?recent=3").data["recent"]
    assert recent["requests"][0]["endpoint"] == "/users/{user_id}"
    assert recent["errors"][0]["error_type"] == "not_found"
    assert "nobody" not in json.dumps(recent)
    assert api.post("/admin/memory/reset").status == 200
    collections = memory(api)["collections"]
    assert collections["errors"]["current_size"] == 0
    assert collections["requests"]["current_size"] <= 1


def test_the_command_line_shows_cleans_and_resets(server):
    shown = run_cli("memory", data=server.data)
    assert shown.returncode == 0, shown.stderr
    assert re.search(r"^budget\.budget_mb +48\.000$", shown.stdout, re.M)
    assert "cache_stats.caches.sessions.hit_rate" in shown.stdout
    stats = run_cli("memory", "stats", "--json", data=server.data)
    assert json.loads(stats.stdout)["cleanup"]["running"] is True
    cleaned = run_cli("memory", "cleanup", "--json", data=server.data)
    assert json.loads(cleaned.stdout)["forced"] is True
    assert run_cli("memory", "reset", data=server.data).returncode == 0
    wrong = run_cli("memory", "explode", data=server.data)
    assert wrong.returncode == 2
    assert "stats | cleanup | reset" in wrong.stderr


@pytest.mark.parametrize(
    ("setting", "allowed"),
    [
        ("memory.budget_mb=0", "32"),
        ("memory.budget_mb=-1", "32"),
        ("memory.budget_mb=9999999999999", "1048576"),
        ("memory.budget_mb=many", ""),
        ("memory.cleanup_interval_s=0", "1"),
        ("memory.cleanup_threshold_mb=0", "1"),
        ("memory.cache_budget_mb=-1", "0"),
        ("memory.cache_pressure_percent=101", "100"),
        ("memory.monitor_limit_mb=0", "1"),
    ],
)
def test_bad_settings_are_refused_by_name_with_what_is_allowed(tmp_path, setting, allowed):
    refused = run_cli("status", data=tmp_path / "data", settings=[setting])
    assert refused.returncode == 1
    assert setting.split("=")[0] in refused.stderr
    assert allowed in refused.stderr


def test_the_largest_settings_work_and_no_cache_at_all_does_too(tmp_path):
    settings = [
        "memory.budget_mb=1048576",
        "memory.cleanup_threshold_mb=1048576",
        "memory.cache_budget_mb=0",
    ]
    with Server(tmp_path / "data", settings=settings) as server, server.api() as api:
        user = api.user("ann")
        session = api.session(user, api.agent("assistant"))
        api.add(session, "my parrot is called Otto")
        assert api.query(user, "parrot")[0]["content"] == "my parrot is called Otto"
        assert memory(api)["cache_stats"]["size"] == 0
        assert memory(api)["cache_stats"]["refusals"] > 0


def test_the_budget_is_reloaded_and_the_monitor_switched_off(tmp_path):
    config = tmp_path / "memfuse.yaml"
    config.write_text("memory:\n  budget_mb: 100\n")
    with Server(tmp_path / "data", config=config) as server, server.api() as api:
        assert memory(api)["budget"]["budget_mb"] == 100
        config.write_text("memory:\n  budget_mb: 200\n  monitor: false\n")
        assert api.post("/admin/reload").status == 200
        reply = api.get("/health")
        assert reply.headers["X-Memory-Usage-MB"] is None
        assert memory(api)["budget"]["budget_mb"] == 200
