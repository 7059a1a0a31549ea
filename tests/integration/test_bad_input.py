"""Hostile and broken bodies: each is answered by the contract, nothing of it is stored, and
the server goes on.
"""

import json
from urllib.parse import quote

import pytest
from harness import UNKNOWN_ID, Server

SERVER = {"model": False}

GOOD = {"role": "user", "content": "fine"}


@pytest.fixture(autouse=True)
def survives(server, api, session):
    """After each test: the same process, and it still stores and finds."""
    pid = server.pid
    yield
    assert server.is_running() and server.pid == pid
    with server.api() as other:
        assert other.get("/health").status == 200
        before = other.texts(session, limit=100)
        other.add(session, "still alive")
        assert other.texts(session, limit=100) == (["still alive", *before])[:100]


def post(api, session, raw):
    return api.post(f"/sessions/{session}/messages", raw=raw)


def nested(depth):
    return b'{"messages":[{"role":"user","content":"deep","metadata":{"a":' + b"[" * depth + b"]" * depth + b"}}]}"


FINE = json.dumps(GOOD).encode()
MALFORMED = {
    "no JSON at all": b"hello",
    "HTML": b"<html></html>",
    "an empty body": b"",
    "only blanks": b"  \n ",
    "a form": b"messages=x&role=user",
    "unterminated object": b'{"messages":[' + FINE,
    "unterminated string": b'{"messages":[{"role":"user","content":"fi',
    "trailing comma": b'{"messages":[' + FINE + b",]}",
    "trailing data": b'{"messages":[' + FINE + b"]} x",
    "two documents": b'{"messages":[' + FINE + b"]}{}",
    "a comment": b'{"messages":[' + FINE + b"]/* c */}",
    "single quotes": b"{'messages':[]}",
    "a byte order mark": b"\xef\xbb\xbf" + b'{"messages":[' + FINE + b"]}",
    "UTF-16": ('{"messages":[' + FINE.decode() + "]}").encode("utf-16"),
    "NaN": b'{"messages":[' + FINE + b'],"x":NaN}',
    "Infinity": b'{"messages":[' + FINE + b'],"x":Infinity}',
    "a number out of range": b'{"messages":[' + FINE + b'],"x":1e999}',
    "a key twice": b'{"messages":[],"messages":[' + FINE + b"]}",
    "a key twice inside": b'{"messages":[{"role":"user","content":"a","content":"b"}]}',
    "a raw control character": b'{"messages":[{"role":"user","content":"a\x01b"}]}',
    "a raw NUL": b'{"messages":[{"role":"user","content":"a\x00b"}]}',
    "a NUL behind the document": b'{"messages":[' + FINE + b"]}\x00",
    "an invalid escape": b'{"messages":[{"role":"user","content":"\\x41"}]}',
    "an escaped NUL": b'{"messages":[{"role":"user","content":"a\\u0000b"}]}',
    "a lone high surrogate": b'{"messages":[{"role":"user","content":"\\ud83d"}]}',
    "a lone low surrogate": b'{"messages":[{"role":"user","content":"\\ude00"}]}',
    "surrogates the wrong way round": b'{"messages":[{"role":"user","content":"\\ude00\\ud83d"}]}',
    "a surrogate as UTF-8": b'{"messages":[{"role":"user","content":"\xed\xa0\xbd"}]}',
    "an overlong form": b'{"messages":[{"role":"user","content":"\xc0\xaf"}]}',
    "a stray continuation byte": b'{"messages":[{"role":"user","content":"\x80"}]}',
    "a cut character": b'{"messages":[{"role":"user","content":"\xf0\x9f\xa6"}]}',
    "beyond Unicode": b'{"messages":[{"role":"user","content":"\xf4\x90\x80\x80"}]}',
    "Latin-1": '{"messages":[{"role":"user","content":"Zoë"}]}'.encode("latin-1"),
    "65 levels": nested(65),
    "a hundred levels": nested(100),
    "a million brackets": b"[" * 1_000_000,
    "a million nested objects": b'{"a":' * 1_000_000,
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_body_is_422(api, session, name):
    reply = post(api, session, MALFORMED[name])
    assert reply.status == 422 and reply.json["detail"], reply
    assert api.messages(session) == []


@pytest.mark.parametrize(
    "body",
    [
        [],
        [GOOD],
        "text",
        5,
        True,
        {},
        {"messages": {}},
        {"messages": "x"},
        {"messages": 5},
        {"messages": [[GOOD]]},
        {"messages": [GOOD, 5]},
        {"message": [GOOD]},
        {"messages": [{**GOOD, "metadata": "x"}]},
        {"messages": [{**GOOD, "metadata": [1]}]},
        {"messages": [{**GOOD, "metadata": {str(i): i for i in range(65)}}]},
        {"messages": [{**GOOD, "metadata": {"x": "y" * 17000}}]},
    ],
)
def test_wrong_types_are_422(api, session, body):
    assert api.post(f"/sessions/{session}/messages", body).status == 422
    assert api.messages(session) == []


def test_nesting_up_to_the_limit_is_accepted(api, session):
    assert post(api, session, nested(50)).status == 201


def test_numbers_at_the_edges_are_numbers(api, user, session):
    api.add(session, "number")
    for raw, status in (
        (b"-0", 200),
        (b"9223372036854775807", 200),
        (b"9223372036854775808", 422),
        (b"-9223372036854775808", 200),
        (b"1e400", 422),
        (b"1e3", 200),
        (b"01", 422),
        (b"+1", 422),
    ):
        reply = api.post(f"/users/{user}/query", raw=b'{"query":"number","top_k":' + raw + b"}")
        assert reply.status == status, (raw, reply)


def test_escaped_characters_become_what_they_mean(api, session):
    assert (
        post(api, session, b'{"messages":[{"role":"user","content":"\\ud83d\\ude00 \\u00e9 \\n\\t\\/\\\\"}]}').status
        == 201
    )
    assert api.texts(session) == ["😀 é \n\t/\\"]


@pytest.mark.parametrize(
    "text",
    [
        "\ufffe\uffff",
        "\u202e\u2066",
        "\u200b\u200b",
        " " * 100_000,
        "\n",
        "\u0301" * 100_000,
        "a" * 200_000,
        "'; DROP TABLE messages; --",
        "%s%n%x",
        "{{7*7}}",
        "../../etc/passwd",
        "\u0001\u001f\u007f\u0085",
        "🦊" * 50_000,
        "<script>alert(1)</script>",
    ],
)
def test_strange_but_valid_text_is_kept_as_it_is(api, user, session, text):
    api.add(session, text)
    assert api.texts(session) == [text]
    api.query(user, text)


def test_blank_text_is_text_and_empty_text_is_not(api, session):
    api.add(session, " ", "\t")
    assert api.texts(session) == ["\t", " "]
    assert api.post(f"/sessions/{session}/messages", {"messages": [{"role": "user", "content": ""}]}).status == 422


def test_a_megabyte_comes_back_byte_for_byte(api, session):
    text = ("0123456789abcdef" * 4 + "é語🦊") * 16_000
    text = text.encode()[:1_000_000].decode(errors="ignore")
    text += "." * (1_000_000 - len(text.encode()))
    api.add(session, text)
    assert api.texts(session, limit=1)[0] == text


def test_ten_thousand_messages_in_one_call_are_one_round(api, user, session):
    turns = [{"role": "user", "content": f"item{i} of many"} for i in range(10_000)]
    ids = api.made(f"/sessions/{session}/messages", {"messages": turns})["message_ids"]
    assert len(set(ids)) == 10_000
    assert [m["id"] for m in api.messages(session, order="asc", limit=100)] == ids[:100]
    assert [m["id"] for m in api.messages(session, limit=100)] == ids[:-101:-1]
    read = api.post(f"/sessions/{session}/messages/read", {"message_ids": ids}).data["messages"]
    assert [m["content"] for m in read] == [t["content"] for t in turns]
    assert api.query(user, "item7777", store_type="keyword")[0]["id"] == ids[7777]
    one_more = [*turns, GOOD]
    assert api.post(f"/sessions/{session}/messages", {"messages": one_more}).status == 422
    assert len(api.post(f"/sessions/{session}/messages/read", {"message_ids": ids}).data["messages"]) == 10_000


def test_one_bad_message_among_thousands_stores_none(api, session):
    turns = [GOOD] * 5000 + [{"role": "user", "content": ""}] + [GOOD] * 4000
    reply = api.post(f"/sessions/{session}/messages", {"messages": turns})
    assert reply.status == 422 and reply.field == "messages.5000.content"
    assert api.messages(session) == []


def test_ids_of_other_users_open_nothing(api, user, agent, session, fresh):
    stranger = api.user(fresh("stranger"))
    theirs = api.session(stranger, agent)
    secret = api.add(theirs, "the vault code is 9931")[0]
    learned = api.learn(stranger, "the vault is behind the painting")
    path = f"/sessions/{session}/messages"
    assert api.post(path + "/read", {"message_ids": [secret]}).status == 404
    assert api.put(path, {"message_ids": [secret], "new_messages": [GOOD]}).status == 404
    assert api.delete(path, {"message_ids": [secret]}).status == 404
    assert api.post(f"/users/{user}/query", {"query": "vault", "session_id": theirs}).status == 404
    assert api.query(user, "vault code painting", top_k=100) == []
    assert api.post(f"/users/{user}/knowledge/read", {"knowledge_ids": learned}).data["knowledge"] == []
    assert api.texts(theirs) == ["the vault code is 9931"]


@pytest.mark.parametrize(
    "name", ["a+b", "a&b", "a/b", "100%", "#1", "🦊 fox", "a%20b", "name=x&user_id=y", "..", "\u202e"]
)
def test_names_with_signs_are_kept_and_found(api, name, agent):
    user = api.user("bad input " + name)
    session = api.session(user, agent, name)
    assert api.get("/users?name=" + quote("bad input " + name, safe="")).data["users"][0]["id"] == user
    assert api.get(f"/sessions?name={quote(name, safe='')}&user_id={user}").data["sessions"][0]["id"] == session


@pytest.mark.parametrize(
    "path",
    [
        "/users?name=%ff%fe",
        "/users?name=%00",
        "/users?name=a%00b",
        "/users/%00",
        "/users/%ff",
        "/sessions/%00/messages",
        "/users?name=%ed%a0%80",
    ],
)
def test_bytes_that_are_no_text_in_a_url_are_refused(api, path):
    assert api.get(path).status in (400, 404)


@pytest.mark.parametrize(
    "path",
    [
        "/users?name=%",
        "/users?name=%4",
        "/users?name=%zz",
        "/users?&&==&name",
        "/users?name",
        f"/users/{UNKNOWN_ID}%2f..%2fhealth",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/users/..%2f",
    ],
)
def test_odd_urls_are_answered(api, path):
    assert api.get(path).status in (200, 400, 404)


def test_other_media_types_are_refused_and_json_in_any_spelling_is_not(api, session):
    raw = json.dumps({"messages": [GOOD]}).encode()
    path = f"/sessions/{session}/messages"
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        assert api.post(path, raw=raw, headers={"Content-Type": kind}).status == 415
    assert api.messages(session) == []
    for kind in ("application/json", "Application/JSON; charset=utf-8", "application/octet-stream"):
        assert api.post(path, raw=raw, headers={"Content-Type": kind}).status == 201


def test_a_body_over_the_limit_is_413_and_one_at_the_limit_is_not(tmp_path):
    limit = 65536
    with Server(tmp_path / "data", model=False, settings=[f"server.body_max_bytes={limit}"]) as server:
        with server.api() as api:
            session = api.session(api.user("u"), api.agent("a"))
        empty = json.dumps({"messages": [{"role": "user", "content": ""}]}).encode()
        for size, status in ((limit - 1, 201), (limit, 201), (limit + 1, 413), (50 * limit, 413)):
            raw = empty.replace(b'""', b'"' + b"x" * (size - len(empty)) + b'"')
            assert len(raw) == size
            for chunked in (False, True):
                with server.api() as api:
                    before = len(api.messages(session, limit=100))
                    try:
                        if chunked:
                            reply = api.call(
                                "POST", f"/sessions/{session}/messages", raw=iter([raw[:1000], raw[1000:]])
                            )
                        else:
                            reply = api.post(f"/sessions/{session}/messages", raw=raw)
                        assert reply.status == status, (size, chunked, reply)
                    except (BrokenPipeError, ConnectionResetError):
                        assert status == 413, "hung up on a body that fits"
                with server.api() as api:
                    assert len(api.messages(session, limit=100)) == before + (status == 201)
