"""The acceptance list of the HTTP contract, one test per item, in its order.

Item 12, the SDK's own suites, is test_sdk_adapters.py and test_sdk_suite.py; items that need
a server of their own (a kill, a load) start one.
"""

import json
import threading

import aiohttp
import pytest
from harness import ENVELOPE, UNKNOWN_ID, Server, Wire
from memfuse import AsyncMemFuse, MemFuse


def test_01_health_answers_in_one_segment_while_others_write_and_tells_no_secret(server, fresh):
    stop = threading.Event()
    failures = []

    def write(name):
        try:
            with server.api() as api:
                session = api.session(api.user(name), api.agent(name))
                while not stop.is_set():
                    api.add(session, "a line that has to be stored and embedded " * 5)
        except Exception as problem:  # noqa: BLE001 - shown by the assertion below
            failures.append(problem)

    writers = [threading.Thread(target=write, args=(fresh("writer"),)) for _ in range(4)]
    for writer in writers:
        writer.start()
    try:
        with Wire(server) as wire:
            for path in ("/api/v1/health", "/api/v1/health/") * 25:
                wire.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                segment = wire.socket.recv(65536)
                head, body = segment.split(b"\r\n\r\n", 1)
                assert head.startswith(b"HTTP/1.1 200 "), segment
                reply = json.loads(body)  # the first segment holds all of it
                assert set(reply) == ENVELOPE and reply["message"] == "Server is healthy"
                assert set(reply["data"]) == {"status", "config", "version"}
                assert reply["data"]["status"] == "ok" and reply["data"]["config"] == {}
                assert reply["data"]["version"].startswith("0.3.")
                assert len(body) < 300 and str(server.data).encode() not in body
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert not failures


async def test_02_forty_requests_of_the_async_client_use_one_connection(server):
    opened = []
    trace = aiohttp.TraceConfig()

    async def note(*_):
        opened.append(1)

    trace.on_connection_create_end.append(note)
    async with AsyncMemFuse(base_url=server.url, timeout=60) as client:
        client.session = aiohttp.ClientSession(trace_configs=[trace])
        for _ in range(20):  # each call is a health check and the request itself
            await client.users.list()
    assert len(opened) == 1


@pytest.mark.parametrize("name", ["Fresh", "Jane Doe", "a+b", "a&b", "Zoë"])
def test_03_init_creates_a_fresh_name_and_finds_it_the_second_time(server, api, name):
    with MemFuse(base_url=server.url, timeout=60) as client:
        first = client.init(user=name, agent="agent of " + name, session="s")
        second = client.init(user=name, agent="agent of " + name, session="s")
    assert (first.user_id, first.agent_id, first.session_id) == (second.user_id, second.agent_id, second.session_id)
    assert api.get(f"/users/{first.user_id}").data["user"]["name"] == name


def test_04_listing_downwards_is_the_exact_reverse_of_adding(api, session):
    first = api.add(session, "one", "two")
    second = api.add(session, "three", "four")
    listed = [m["id"] for m in api.messages(session)]
    assert listed == (first + second)[::-1]
    assert [m["id"] for m in api.messages(session, order="asc")] == first + second
    assert api.texts(session, limit=1) == ["four"]
    assert api.texts(session, limit=1, order="asc") == ["one"]


def test_05_the_window_and_the_rest_are_disjoint_and_together_everything(api, session):
    for i in range(12):
        api.add(session, f"question {i}", f"answer {i}")
        window = api.texts(session, buffer_only="true", limit=100)
        rest = api.texts(session, buffer_only="false", limit=100)
        assert window, "what was just added is recent"
        assert window + rest == api.texts(session, limit=100)
    assert rest, "twelve rounds are more than the window holds"


def test_06_a_fact_is_found_from_anywhere_and_tagged_by_where_the_question_is_asked(api, user, agent):
    old, new = api.session(user, agent), api.session(user, agent)
    fact = api.add(old, "We adopted a parrot named Kiwi last spring.")[0]
    api.add(new, "The train to the airport leaves at noon.")
    for session_id, scope in ((new, "cross_session"), (old, "in_session"), (None, None)):
        hit = api.query(user, "Which bird do we keep?", session_id=session_id)[0]
        assert hit["id"] == fact
        assert hit["metadata"]["scope"] == scope


def test_07_either_kind_of_memory_can_be_left_out(api, user, session):
    api.add(session, "The garden gate is painted green.")
    api.learn(user, "Green paint for the gate is in the shed.")
    kinds = {hit["type"] for hit in api.query(user, "green gate")}
    assert kinds == {"message", "knowledge"}
    assert {h["type"] for h in api.query(user, "green gate", include_messages=False)} == {"knowledge"}
    assert {h["type"] for h in api.query(user, "green gate", include_knowledge=False)} == {"message"}
    assert api.query(user, "green gate", include_messages=False, include_knowledge=False) == []


def test_08_deleting_a_user_through_the_sdk_returns_a_dict(server, fresh):
    with MemFuse(base_url=server.url, timeout=60) as client:
        user_id = client.init(user=fresh("user")).user_id
        deleted = client.users.delete_sync(user_id)
    assert isinstance(deleted, dict)
    assert deleted["status"] == "success" and deleted["data"]["user_id"] == user_id


def test_09_deleted_and_replaced_text_stops_matching_at_once(api, user, session):
    first, second = api.add(session, "The zeppelin museum opens at ten.", "Lunch was lentil soup.")
    api.query(user, "zeppelin", store_type="keyword")  # an answer the server may have kept
    changed = {"message_ids": [first], "new_messages": [{"role": "user", "content": "The submarine museum is closed."}]}
    assert api.put(f"/sessions/{session}/messages", changed).status == 200
    assert api.query(user, "zeppelin", store_type="keyword") == []
    assert [h["id"] for h in api.query(user, "submarine", store_type="keyword")] == [first]
    assert all("zeppelin" not in h["content"] for h in api.query(user, "zeppelin", top_k=50))
    gone = api.delete(f"/sessions/{session}/messages", {"message_ids": [second]})
    assert gone.status == 200 and gone.data["message_ids"] == [second]
    assert api.query(user, "lentil soup", store_type="keyword") == []
    assert second not in [h["id"] for h in api.query(user, "lentil soup", top_k=50)]


def test_10_a_killed_server_still_lists_and_finds_what_it_acknowledged(tmp_path):
    server = Server(tmp_path / "data").start()
    with server.api() as api:
        user = api.user("u")
        session = api.session(user, api.agent("a"))
        ids = [api.add(session, f"The combination of locker {i} is {7000 + i}.")[0] for i in range(12)]
        server.kill()
    with server, server.api() as api:
        assert [m["id"] for m in api.messages(session, order="asc")] == ids
        assert api.query(user, "7007", store_type="keyword")[0]["id"] == ids[7]
        api.flush(user)
        hits = api.query(user, "secret number of a storage cabinet", store_type="vector", top_k=12)
        assert {h["id"] for h in hits} == set(ids)


def test_11_each_kind_of_mistake_gets_its_status(api, session, fresh):
    bad_role = api.post(f"/sessions/{session}/messages", {"messages": [{"role": "robot", "content": "x"}]})
    assert bad_role.status == 422 and bad_role.json["detail"] and bad_role.message
    bad_limit = api.get(f"/sessions/{UNKNOWN_ID}/messages?limit=none")
    assert bad_limit.status == 400 and bad_limit.field == "limit"
    name = fresh("user")
    api.user(name)
    assert api.post("/users", {"name": name}).status == 400
    assert api.get(f"/users/{UNKNOWN_ID}").status == 404
    nowhere = api.get("/no/such/route")
    assert nowhere.status == 404 and nowhere.json["detail"] == "Not Found"


def test_13_any_text_comes_back_byte_for_byte(api, session):
    texts = [
        "🦊👩‍👩‍👧‍👦🇵🇹 done",
        "機械学習は楽しい",
        "e\u0301 is not é",
        "\u202eright to left\u202c",
        "line\r\nline\ttab",
        "\ufeffmark",
        "  blanks  ",
        "x" * 10 + "🦊語é\n" * 80_000,
    ]
    assert len(texts[-1].encode()) >= 800_000
    texts[-1] += "y" * (1_000_000 - len(texts[-1].encode()))
    assert len(texts[-1].encode()) == 1_000_000
    ids = [api.add(session, text)[0] for text in texts]
    read = api.post(f"/sessions/{session}/messages/read", {"message_ids": ids})
    assert [m["content"] for m in read.data["messages"]] == texts


def test_14_the_contract_holds_where_the_list_names_a_deviation(api, fresh):
    """The cases themselves are test_contract.py; deleting a user answers with a body."""
    user = api.user(fresh("user"))
    gone = api.delete(f"/users/{user}")
    assert (gone.status, gone.data, gone.message) == (200, {"user_id": user}, "User deleted successfully")
    assert api.delete(f"/users/{user}").status == 404
