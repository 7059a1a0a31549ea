"""The SDK's model adapters: what was said earlier is in the prompt of what is asked later.

The model is echo_llm.py, so an answer is the prompt itself.
"""

import importlib

import pytest
from echo_llm import EchoLlm
from memfuse import AsyncMemFuse, MemFuse
from memfuse.llm import AsyncOpenAI, OpenAI

ASK = {"model": "echo"}


@pytest.fixture(scope="module")
def llm():
    with EchoLlm() as running:
        yield running


@pytest.fixture
def client(server):
    with MemFuse(base_url=server.url, timeout=60) as opened:
        yield opened


def said(text):
    return [{"role": "user", "content": text}]


def answer(chat, text):
    return chat.chat.completions.create(messages=said(text), **ASK).choices[0].message.content


def streamed(chat, text):
    chunks = chat.chat.completions.create(messages=said(text), stream=True, **ASK)
    return "".join(c.choices[0].delta.content or "" for c in chunks)


async def async_answer(chat, text):
    return (await chat.chat.completions.create(messages=said(text), **ASK)).choices[0].message.content


async def async_streamed(chat, text):
    chunks = await chat.chat.completions.create(messages=said(text), stream=True, **ASK)
    return "".join([c.choices[0].delta.content or "" async for c in chunks])


@pytest.mark.parametrize("ask", [answer, streamed])
def test_a_follow_up_is_asked_with_what_was_said_before(client, llm, fresh, ask):
    memory = client.init(user=fresh("user"))
    chat = OpenAI(api_key="x", base_url=llm.url, memory=memory)
    ask(chat, "Let us talk about Mars and its dust storms.")
    assert "Mars" in ask(chat, "How long would a journey there take?")
    stored = memory.list_messages(order="asc", limit=100)["data"]["messages"]
    assert [m["role"] for m in stored] == ["user", "assistant"] * 2
    assert stored[0]["content"] == "Let us talk about Mars and its dust storms."


@pytest.mark.parametrize("ask", [async_answer, async_streamed])
async def test_an_async_follow_up_is_asked_with_what_was_said_before(server, llm, fresh, ask):
    async with AsyncMemFuse(base_url=server.url, timeout=60) as client:
        memory = await client.init(user=fresh("user"))
        chat = AsyncOpenAI(api_key="x", base_url=llm.url, memory=memory)
        await ask(chat, "Let us talk about Mars and its dust storms.")
        assert "Mars" in await ask(chat, "How long would a journey there take?")
        assert len((await memory.list_messages())["data"]["messages"]) == 4


async def test_messages_added_by_hand_reach_the_prompt_inside_a_context_manager(server, llm, fresh):
    async with AsyncMemFuse(base_url=server.url, timeout=60) as client:
        memory = await client.init(user=fresh("user"), session="giants")
        await memory.add(
            [
                {"role": "user", "content": "Tonight I watch Jupiter through my telescope."},
                {"role": "assistant", "content": "Enjoy the bands of Jupiter."},
            ]
        )
        chat = AsyncOpenAI(api_key="x", base_url=llm.url, memory=memory)
        assert "Jupiter" in await async_answer(chat, "Which of its moons can I see?")


def test_a_new_session_is_asked_with_what_an_old_one_knows(client, llm, fresh):
    name = fresh("user")
    old = OpenAI(api_key="x", base_url=llm.url, memory=client.init(user=name, session="old"))
    answer(old, "My favourite moon is Europa because of its ocean under the ice.")
    new = OpenAI(api_key="x", base_url=llm.url, memory=client.init(user=name, session="new"))
    assert "Europa" in answer(new, "Which moon do I like best, the one with an ocean?")


def test_many_turns_stay_in_order_and_in_reach(client, llm, fresh):
    memory = client.init(user=fresh("user"), agent=fresh("agent"), session="tour")
    chat = OpenAI(api_key="x", base_url=llm.url, memory=memory)
    turns = [
        "The Moon has no air. Tell me more about the Moon.",
        "And how does Mars differ from it?",
        "Where would a colony be easier?",
        "What would settlers fear most?",
        "What could be mined?",
        "And Europa, compared with the two of before?",
    ]
    for number, turn in enumerate(turns):
        last = answer(chat, turn)
        asked = [m["content"] for m in llm.prompts[-1] if m["role"] == "user"]
        first = number + 1 - len(asked)
        assert asked == turns[first : number + 1], "turns in the prompt are doubled, lost or out of order"
        assert first <= max(0, number - 5)
    assert "Moon" in last and "Mars" in last and "Europa" in last


# --- what the SDK's smoke tests ask of an installation ---------------------------------------


def test_everything_the_sdk_promises_can_be_imported():
    package = importlib.import_module("memfuse")
    assert all(hasattr(package, name) for name in package.__all__)
    models = importlib.import_module("memfuse.models")
    for name in ("Message", "InitRequest", "QueryRequest", "AddRequest", "ErrorDetail", "ApiResponse"):
        assert hasattr(models, name)
    for name in ("handle_server_connection", "run_async", "run_with_error_handling"):
        assert callable(getattr(importlib.import_module("memfuse.utils"), name))


def test_clients_carry_address_key_and_interfaces(monkeypatch):
    monkeypatch.delenv("MEMFUSE_API_KEY", raising=False)
    for kind in (MemFuse, AsyncMemFuse):
        client = kind(base_url="http://example.test:1/")
        assert client.base_url == "http://example.test:1" and client.api_key is None
        for name in ("health", "users", "agents", "sessions", "knowledge", "messages", "api_keys"):
            assert getattr(client, name).client is client
        assert kind(api_key="k").api_key == "k"
    monkeypatch.setenv("MEMFUSE_API_KEY", "from-environment")
    assert MemFuse().api_key == AsyncMemFuse().api_key == "from-environment"


def test_every_adapter_that_works_without_a_network_can_be_made(client, fresh):
    llms = importlib.import_module("memfuse.llm")
    memory = client.init(user=fresh("user"))
    for name in ("OpenAI", "AsyncOpenAI", "Anthropic", "AsyncAnthropic"):
        assert callable(getattr(llms, name)(api_key="x", memory=memory).close)
    for name in ("GeminiClient", "AsyncGeminiClient", "MemOllama", "AsyncMemOllama"):
        assert callable(getattr(llms, name))
