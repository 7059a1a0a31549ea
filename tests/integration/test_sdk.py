"""The public MemFuse SDK, both of its clients, against the server."""

import asyncio

import aiohttp
import memfuse
import pytest
from harness import UNKNOWN_ID, UUID4
from memfuse import AsyncMemFuse, MemFuse
from memfuse.utils import MemFuseHTTPError

# A plus beside a blank is missing: the async client sends both as a plus.  So is '#', behind
# which no client sends anything.
NAMES = ["Jane Doe", "a+b", "a&b", "Zoë", "林", "a/b?c", "100%", "plain", "x=y", "🦊", "Tom & Jerry"]
TURNS = [
    {"role": "user", "content": "My cat is called Pixel and he loves tuna."},
    {"role": "assistant", "content": "Pixel sounds lovely, I will remember him."},
]


@pytest.fixture
def client(server):
    with MemFuse(base_url=server.url, timeout=60) as opened:
        yield opened


@pytest.fixture
async def aclient(server):
    async with AsyncMemFuse(base_url=server.url, timeout=60) as opened:
        yield opened


def contents(reply):
    key = "results" if "results" in reply["data"] else "messages"
    return [item["content"] for item in reply["data"][key]]


def test_the_sdk_is_the_version_whose_protocol_is_spoken():
    assert memfuse.__version__ == "0.3.2"


# --- init ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_init_creates_a_name_once_and_finds_it_again(client, name):
    first = client.init(user=name, agent="agent-" + name, session="session-" + name)
    again = client.init(user=name, agent="agent-" + name, session="session-" + name)
    assert (first.user_id, first.agent_id, first.session_id) == (again.user_id, again.agent_id, again.session_id)
    assert client.users.get_sync(first.user_id)["data"]["user"]["name"] == name
    assert client.sessions.get_sync(first.session_id)["data"]["session"]["name"] == "session-" + name


@pytest.mark.parametrize("name", NAMES)
async def test_async_init_creates_a_name_once_and_finds_it_again(aclient, name):
    name = "async-" + name
    first = await aclient.init(user=name, agent=name, session=name)
    again = await aclient.init(user=name, agent=name, session=name)
    assert (first.user_id, first.agent_id, first.session_id) == (again.user_id, again.agent_id, again.session_id)
    assert (await aclient.users.get(first.user_id))["data"]["user"]["name"] == name


def test_init_without_a_session_name_makes_a_new_session_each_time(client, fresh):
    name = fresh("user")
    first, second = client.init(user=name), client.init(user=name)
    assert first.user_id == second.user_id and first.session_id != second.session_id
    assert first.session and second.session and first.session != second.session


# --- the memory object ---------------------------------------------------------------------


def test_memory_adds_lists_reads_updates_and_deletes(client, fresh):
    memory = client.init(user=fresh("user"), session="s")
    ids = memory.add(TURNS)["data"]["message_ids"]
    assert len(ids) == 2 and all(UUID4.fullmatch(i) for i in ids)
    assert contents(memory.list_messages()) == [t["content"] for t in reversed(TURNS)]
    assert contents(memory.list_messages(order="asc", limit=1)) == [TURNS[0]["content"]]
    assert [m["id"] for m in memory.read(ids[::-1])["data"]["messages"]] == ids[::-1]
    memory.update(ids[:1], [{"role": "user", "content": "My dog is called Byte."}])
    assert contents(memory.read(ids[:1])) == ["My dog is called Byte."]
    assert memory.delete(ids[:1])["data"]["message_ids"] == ids[:1]
    assert [m["id"] for m in memory.list_messages()["data"]["messages"]] == ids[1:]


async def test_async_memory_adds_lists_reads_updates_and_deletes(aclient, fresh):
    memory = await aclient.init(user=fresh("user"), session="s")
    ids = (await memory.add(TURNS))["data"]["message_ids"]
    assert contents(await memory.list_messages()) == [t["content"] for t in reversed(TURNS)]
    assert [m["id"] for m in (await memory.read(ids))["data"]["messages"]] == ids
    await memory.update(ids[:1], [{"role": "user", "content": "My dog is called Byte."}])
    assert contents(await memory.read(ids[:1])) == ["My dog is called Byte."]
    assert (await memory.delete(ids))["data"]["message_ids"] == ids
    assert contents(await memory.list_messages()) == []


def test_memory_query_finds_by_meaning_and_tags_scopes(client, fresh):
    name = fresh("user")
    old = client.init(user=name, session="old")
    old.add(TURNS)
    new = client.init(user=name, session="new")
    new.add([{"role": "user", "content": "Please book a table for two on Friday evening."}])
    hits = new.query_session("what is the name of my pet?")["data"]["results"]
    assert "Pixel" in hits[0]["content"] and hits[0]["metadata"]["scope"] == "cross_session"
    hits = old.query_session("what is the name of my pet?")["data"]["results"]
    assert "Pixel" in hits[0]["content"] and hits[0]["metadata"]["scope"] == "in_session"
    hits = new.query("what is the name of my pet?", top_k=1)["data"]["results"]
    assert len(hits) == 1 and hits[0]["metadata"]["scope"] is None


async def test_async_memory_query_finds_and_tags(aclient, fresh):
    name = fresh("user")
    await (await aclient.init(user=name, session="old")).add(TURNS)
    new = await aclient.init(user=name, session="new")
    hits = (await new.query_session("what does my cat eat?"))["data"]["results"]
    assert "tuna" in hits[0]["content"] and hits[0]["metadata"]["scope"] == "cross_session"
    assert (await new.query("what does my cat eat?"))["data"]["results"][0]["metadata"]["scope"] is None


def test_knowledge_through_the_memory_object(client, fresh):
    memory = client.init(user=fresh("user"))
    ids = memory.add_knowledge(["The office closes at six.", "Parking is on level two."])["data"]["knowledge_ids"]
    assert [k["id"] for k in memory.read_knowledge(ids)["data"]["knowledge"]] == ids
    hit = memory.query("when does the office close?")["data"]["results"][0]
    assert (hit["id"], hit["type"], hit["role"]) == (ids[0], "knowledge", None)
    assert memory.update_knowledge(ids[:1], ["The office closes at nine."])["data"]["knowledge_ids"] == ids[:1]
    assert "nine" in memory.query("when does the office close?")["data"]["results"][0]["content"]
    assert memory.delete_knowledge(ids)["data"]["knowledge_ids"] == ids
    assert memory.query("when does the office close?")["data"]["results"] == []


async def test_async_knowledge_through_the_memory_object(aclient, fresh):
    memory = await aclient.init(user=fresh("user"))
    ids = (await memory.add_knowledge(["Tea is in the left drawer."]))["data"]["knowledge_ids"]
    assert [k["content"] for k in (await memory.read_knowledge(ids))["data"]["knowledge"]] == [
        "Tea is in the left drawer."
    ]
    await memory.update_knowledge(ids, ["Tea is on the shelf."])
    assert [k["content"] for k in (await aclient.knowledge.list(memory.user_id))["data"]["knowledge"]] == [
        "Tea is on the shelf."
    ]
    assert (await memory.delete_knowledge(ids))["data"]["knowledge_ids"] == ids


# --- the interfaces of users, agents, sessions and keys ------------------------------------


def test_users_and_agents_through_the_client(client, fresh):
    for api, one, many, key in (
        (client.users, "user", "users", "user_id"),
        (client.agents, "agent", "agents", "agent_id"),
    ):
        name = fresh(one)
        made = api.create_sync(name, "about " + name)["data"][one]
        assert made["name"] == name and made["description"] == "about " + name
        assert api.get_sync(made["id"])["data"][one] == made
        assert api.get_by_name_sync(name)["data"][many] == [made]
        assert made in api.list_sync()["data"][many]
        changed = api.update_sync(made["id"], name=name + "!")["data"][one]
        assert (changed["name"], changed["description"]) == (name + "!", "about " + name)
        assert api.delete_sync(made["id"])["data"] == {key: made["id"]}
        with pytest.raises(MemFuseHTTPError) as caught:
            api.get_sync(made["id"])
        assert caught.value.status_code == 404


def test_sessions_through_the_client(client, fresh):
    memory = client.init(user=fresh("user"), agent=fresh("agent"), session="first")
    second = client.sessions.create_sync(memory.user_id, memory.agent_id, "second")["data"]["session"]
    listed = client.sessions.list_sync(user_id=memory.user_id)["data"]["sessions"]
    assert [s["name"] for s in listed] == ["second", "first"]
    assert client.sessions.list_sync(agent_id=memory.agent_id)["data"]["sessions"] == listed
    assert client.sessions.get_by_name_sync("second", memory.user_id)["data"]["sessions"] == [second]
    assert client.sessions.update_sync(second["id"], "third")["data"]["session"]["name"] == "third"
    assert client.sessions.delete_sync(second["id"])["data"] == {"session_id": second["id"]}
    assert client.messages.list_sync(memory.session_id)["data"]["messages"] == []


async def test_sessions_and_users_through_the_async_client(aclient, fresh):
    memory = await aclient.init(user=fresh("user"), agent=fresh("agent"), session="first")
    listed = (await aclient.sessions.list(user_id=memory.user_id, agent_id=memory.agent_id))["data"]["sessions"]
    assert [s["id"] for s in listed] == [memory.session_id]
    assert (await aclient.sessions.update(memory.session_id, "renamed"))["data"]["session"]["name"] == "renamed"
    assert (await aclient.agents.get(memory.agent_id))["data"]["agent"]["id"] == memory.agent_id
    assert (await aclient.sessions.delete(memory.session_id))["data"] == {"session_id": memory.session_id}
    deleted = await aclient.users.delete(memory.user_id)
    assert isinstance(deleted, dict) and deleted["data"] == {"user_id": memory.user_id}


def test_deleting_a_user_returns_a_dict_and_takes_everything_along(client, fresh):
    memory = client.init(user=fresh("user"))
    memory.add(TURNS)
    deleted = client.users.delete_sync(memory.user_id)
    assert isinstance(deleted, dict) and deleted["data"] == {"user_id": memory.user_id}
    for call in (memory.list_messages, lambda: memory.query("cat"), lambda: client.users.delete_sync(memory.user_id)):
        with pytest.raises(MemFuseHTTPError) as caught:
            call()
        assert caught.value.status_code == 404


def test_api_keys_through_the_client(client, fresh):
    user = client.init(user=fresh("user")).user_id
    made = client.api_keys.create_sync(user, name="laptop")["data"]["api_key"]
    assert set(made) == {"id", "user_id", "name", "key", "permissions", "created_at", "expires_at"}
    assert made["user_id"] == user and made["name"] == "laptop" and len(made["key"]) >= 20
    listed = client.api_keys.list_sync(user)["data"]["api_keys"]
    assert [(k["id"], k["key"]) for k in listed] == [(made["id"], "********")]
    assert client.api_keys.delete_sync(user, made["id"])["data"] == {"key_id": made["id"]}
    assert client.api_keys.list_sync(user)["data"]["api_keys"] == []
    with pytest.raises(MemFuseHTTPError) as caught:
        client.api_keys.delete_sync(user, made["id"])
    assert caught.value.status_code == 404


async def test_an_api_key_can_be_made_without_a_body(aclient, fresh):
    user = (await aclient.init(user=fresh("user"))).user_id
    made = (await aclient.api_keys.create(user))["data"]["api_key"]
    assert made["user_id"] == user and made["key"]
    assert (await aclient.api_keys.delete(user, made["id"]))["data"] == {"key_id": made["id"]}


async def test_health_through_both_clients(client, aclient):
    assert client.health.health_check_sync()["data"]["status"] == "ok"
    assert (await aclient.health.health_check())["data"]["status"] == "ok"


# --- errors --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call, status, text",
    [
        (lambda c, m: c.users.get_sync(UNKNOWN_ID), 404, "not found"),
        (lambda c, m: c.users.create_sync(m.user), 400, "already exists"),
        (lambda c, m: c.users.create_sync(""), 422, "at least 1 character"),
        (lambda c, m: m.add([{"role": "robot", "content": "x"}]), 422, "role"),
        (lambda c, m: m.add([{"role": "user", "content": ""}]), 422, "content"),
        (lambda c, m: m.add([{"role": "user", "content": None}]), 422, "content"),
        (lambda c, m: m.list_messages(limit=0), 400, "limit"),
        (lambda c, m: m.list_messages(order="up"), 400, "order"),
        (lambda c, m: m.query("x", store_type="hybrid"), 422, "store_type"),
        (lambda c, m: m.query("x", session_id=UNKNOWN_ID), 404, "not found"),
        (lambda c, m: m.read([UNKNOWN_ID]), 404, "not found"),
    ],
)
def test_failures_become_the_sdk_s_own_error_with_our_message(client, fresh, call, status, text):
    memory = client.init(user=fresh("user"))
    with pytest.raises(MemFuseHTTPError) as caught:
        call(client, memory)
    assert caught.value.status_code == status
    assert text in str(caught.value) and "Unknown error" not in str(caught.value)
    assert set(caught.value.response_data) >= {"status", "code", "data", "message", "errors"}


async def test_async_failures_become_the_sdk_s_own_error(aclient):
    with pytest.raises(MemFuseHTTPError) as caught:
        await aclient.sessions.get(UNKNOWN_ID)
    assert caught.value.status_code == 404 and "not found" in str(caught.value)


def test_no_server_is_a_connection_error(tmp_path):
    with MemFuse(base_url="http://127.0.0.1:9", timeout=5) as client, pytest.raises(ConnectionError):
        client.init(user="nobody")


# --- connections ---------------------------------------------------------------------------


async def counted(server):
    """An async client and the list of connections it opens."""
    opened = []
    trace = aiohttp.TraceConfig()

    async def note(*_):
        opened.append(1)

    trace.on_connection_create_end.append(note)
    client = AsyncMemFuse(base_url=server.url, timeout=60)
    client.session = aiohttp.ClientSession(trace_configs=[trace])
    return client, opened


async def test_forty_requests_share_one_connection(server, fresh):
    client, opened = await counted(server)
    async with client:
        memory = await client.init(user=fresh("user"))
        for i in range(20):
            await memory.add([{"role": "user", "content": f"note {i}"}])
            await memory.list_messages()
    assert len(opened) == 1


async def test_concurrent_async_clients_all_get_their_own_answers(server, fresh):
    async with AsyncMemFuse(base_url=server.url, timeout=60) as client:
        memories = [await client.init(user=fresh("user")) for _ in range(8)]

        async def work(number, memory):
            for i in range(5):
                await memory.add([{"role": "user", "content": f"user {number} says {i}"}])
            return contents(await memory.list_messages(order="asc"))

        lists = await asyncio.gather(*(work(n, m) for n, m in enumerate(memories)))
    assert lists == [[f"user {n} says {i}" for i in range(5)] for n in range(8)]
