"""The HTTP contract, case by case: statuses, closed key sets, messages, order of checks.

Envelopes are checked by harness.Api on every reply.
"""

import json
import re

import pytest
from harness import TIMESTAMP, UNKNOWN_ID, UUID4, Server

NAMED_KEYS = {"id", "name", "description", "created_at", "updated_at"}
SESSION_KEYS = {"id", "user_id", "agent_id", "name", "created_at", "updated_at"}
MESSAGE_KEYS = {"id", "session_id", "role", "content", "created_at", "updated_at"}
KNOWLEDGE_KEYS = {"id", "user_id", "content", "created_at", "updated_at"}
RESULT_KEYS = {"id", "content", "score", "type", "role", "created_at", "updated_at", "metadata"}


def check_object(thing, keys):
    assert set(thing) == keys
    assert UUID4.fullmatch(thing["id"])
    for key in ("created_at", "updated_at"):
        assert TIMESTAMP.fullmatch(thing[key]), thing


def failed(reply, status, message=None, field=None):
    assert reply.status == status, reply
    if message is not None:
        assert reply.message == message
    if field is not None:
        assert reply.field == field
    return True


# --- users and agents ------------------------------------------------------------------------


@pytest.fixture(params=["user", "agent"])
def kind(request):
    return request.param


def test_a_named_thing_is_created_and_shown(api, kind, fresh):
    name = fresh(kind)
    made = api.post(f"/{kind}s", {"name": name, "description": "d"})
    assert (made.status, made.message) == (201, f"{kind.capitalize()} created successfully")
    assert set(made.data) == {kind}
    thing = made.data[kind]
    check_object(thing, NAMED_KEYS)
    assert (thing["name"], thing["description"]) == (name, "d")
    assert thing["created_at"] == thing["updated_at"]
    shown = api.get(f"/{kind}s/{thing['id']}")
    assert (shown.status, shown.data, shown.message) == (
        200,
        {kind: thing},
        f"{kind.capitalize()} retrieved successfully",
    )


def test_a_description_may_be_left_out_null_or_empty(api, kind, fresh):
    for body, value in (({}, None), ({"description": None}, None), ({"description": ""}, "")):
        made = api.post(f"/{kind}s", {"name": fresh(kind), **body})
        assert made.data[kind]["description"] == value


def test_named_things_are_listed_and_found_by_name(api, kind, fresh):
    name = fresh(kind)
    thing = api.made(f"/{kind}s", {"name": name})[kind]
    everything = api.get(f"/{kind}s")
    assert everything.status == 200 and set(everything.data) == {f"{kind}s"}
    assert everything.message == f"{kind.capitalize()}s retrieved successfully"
    assert thing in everything.data[f"{kind}s"]
    assert api.get(f"/{kind}s?name=").data == everything.data
    found = api.get(f"/{kind}s?name={name}")
    assert (found.status, found.data) == (200, {f"{kind}s": [thing]})
    assert found.message == f"{kind.capitalize()} retrieved successfully"
    failed(api.get(f"/{kind}s?name=no-such"), 404, f"{kind.capitalize()} with name 'no-such' not found", "name")


def test_a_name_can_be_taken_only_once(api, kind, fresh):
    name = fresh(kind)
    first = api.made(f"/{kind}s", {"name": name})[kind]
    failed(api.post(f"/{kind}s", {"name": name}), 400, f"{kind.capitalize()} with name '{name}' already exists", "name")
    assert api.post(f"/{kind}s", {"name": name.upper()}).status == 201, "names differ by case"
    other = api.made(f"/{kind}s", {"name": fresh(kind)})[kind]
    failed(
        api.put(f"/{kind}s/{other['id']}", {"name": name}),
        400,
        f"{kind.capitalize()} with name '{name}' already exists",
        "name",
    )
    assert api.get(f"/{kind}s/{other['id']}").data[kind] == other
    assert api.put(f"/{kind}s/{first['id']}", {"name": name}).status == 200, "its own name is free for it"


def test_a_named_thing_is_updated_in_part(api, kind, fresh):
    thing = api.made(f"/{kind}s", {"name": fresh(kind), "description": "old"})[kind]
    path = f"/{kind}s/{thing['id']}"
    renamed = api.put(path, {"name": fresh(kind), "description": None})
    assert (renamed.status, renamed.message) == (200, f"{kind.capitalize()} updated successfully")
    assert renamed.data[kind]["description"] == "old"
    assert renamed.data[kind]["created_at"] == thing["created_at"]
    assert renamed.data[kind]["updated_at"] > thing["updated_at"]
    described = api.put(path, {"description": "new"}).data[kind]
    assert (described["name"], described["description"]) == (renamed.data[kind]["name"], "new")
    assert api.put(path, {}).status == 200
    failed(api.get(f"/{kind}s?name={thing['name']}"), 404)


def test_a_named_thing_is_deleted_once(api, kind, fresh):
    name = fresh(kind)
    thing = api.made(f"/{kind}s", {"name": name})[kind]
    path = f"/{kind}s/{thing['id']}"
    gone = api.delete(path)
    assert (gone.status, gone.data) == (200, {f"{kind}_id": thing["id"]})
    assert gone.message == f"{kind.capitalize()} deleted successfully"
    for call in (api.delete(path), api.get(path), api.put(path, {"name": "x"})):
        failed(call, 404, f"{kind.capitalize()} with ID '{thing['id']}' not found", f"{kind}_id")
    failed(api.get(f"/{kind}s?name={name}"), 404)
    assert api.post(f"/{kind}s", {"name": name}).status == 201, "the name is free again"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": ""},
        {"name": None},
        {"name": 7},
        {"name": ["x"]},
        {"name": "x", "description": 5},
        {"name": "n" * 1025},
        {"name": "a\0b"},
        [],
        "text",
        5,
        None,
    ],
)
def test_a_wrong_body_creates_nothing(api, kind, body):
    before = api.get(f"/{kind}s").data
    reply = api.call("POST", f"/{kind}s", raw=b"null" if body is None else None, body=body)
    failed(reply, 422)
    assert api.get(f"/{kind}s").data == before


def test_an_ill_formed_id_is_unknown_not_wrong(api, kind):
    for wrong in ("nonsense", "0", "%C3%A9", UNKNOWN_ID[:-1], UNKNOWN_ID + "0"):
        failed(api.get(f"/{kind}s/{wrong}"), 404)
        failed(api.delete(f"/{kind}s/{wrong}"), 404)


def test_unknown_fields_and_parameters_are_ignored(api, kind, fresh):
    made = api.post(f"/{kind}s?tag=m3", {"name": fresh(kind), "colour": "red", "metadata": {}})
    assert made.status == 201 and set(made.data[kind]) == NAMED_KEYS


def test_an_agent_takes_its_sessions_along(api, user, fresh):
    agent = api.agent(fresh("agent"))
    session = api.session(user, agent)
    api.add(session, "marmalade")
    assert api.delete(f"/agents/{agent}").status == 200
    failed(api.get(f"/sessions/{session}"), 404)
    assert api.query(user, "marmalade") == []


# --- lookups by raw names ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, queries",
    [
        ("Jane Doe", ["Jane%20Doe", "Jane+Doe"]),
        ("a+b", ["a+b", "a%2Bb"]),
        ("a&b", ["a&b", "a%26b"]),
        ("100%", ["100%25"]),
        ("a/b?c", ["a/b?c", "a%2Fb%3Fc"]),
        ("Zoë", ["Zo%C3%AB"]),
        ("林", ["%E6%9E%97"]),
        ("a#b", ["a%23b"]),
        ("q=1", ["q=1", "q%3D1"]),
        ("🦊", ["%F0%9F%A6%8A"]),
        ("x&name=y", ["x&name=y"]),
    ],
)
def test_a_name_is_found_however_a_client_puts_it_into_the_url(api, kind, name, queries):
    made = api.made(f"/{kind}s", {"name": name})[kind]
    for query in queries:
        assert api.get(f"/{kind}s?name={query}").data[f"{kind}s"] == [made], query


def test_the_exact_name_wins_over_a_lenient_reading(api, kind):
    blank = api.made(f"/{kind}s", {"name": f"{kind} c d"})[kind]
    plus = api.made(f"/{kind}s", {"name": f"{kind} c+d"})[kind]
    assert api.get(f"/{kind}s?name={kind}+c+d").data[f"{kind}s"] == [blank]
    assert api.get(f"/{kind}s?name={kind}%20c%2Bd").data[f"{kind}s"] == [plus]


def test_a_session_name_with_an_ampersand_stops_at_the_user(api, user, agent):
    session = api.session(user, agent, "this&that")
    found = api.get(f"/sessions?name=this&that&user_id={user}")
    assert [s["id"] for s in found.data["sessions"]] == [session]


# --- sessions ----------------------------------------------------------------------------------


def test_a_session_is_created_and_shown(api, user, agent):
    made = api.post("/sessions", {"user_id": user, "agent_id": agent, "name": "chat"})
    assert (made.status, made.message, set(made.data)) == (201, "Session created successfully", {"session"})
    session = made.data["session"]
    check_object(session, SESSION_KEYS)
    assert (session["user_id"], session["agent_id"], session["name"]) == (user, agent, "chat")
    assert api.get(f"/sessions/{session['id']}").data == {"session": session}


def test_a_session_without_a_name_gets_one(api, fresh):
    user, agent = fresh("user"), fresh("agent")
    body = {"user_id": api.user(user), "agent_id": api.agent(agent)}
    for extra in ({}, {"name": None}):
        name = api.made("/sessions", {**body, **extra})["session"]["name"]
        assert re.fullmatch(re.escape(f"{user}-{agent}-") + "[0-9a-f]{8}", name)


def test_session_names_are_unique_per_user(api, user, agent, fresh):
    first = api.session(user, agent, "same")
    failed(
        api.post("/sessions", {"user_id": user, "agent_id": agent, "name": "same"}),
        400,
        "Session with name 'same' already exists for this user",
        "name",
    )
    assert api.session(api.user(fresh("user")), agent, "same") != first
    second = api.session(user, agent, "different")
    failed(
        api.put(f"/sessions/{second}", {"name": "same"}),
        400,
        "Session with name 'same' already exists for this user",
        "name",
    )


def test_a_session_needs_a_user_and_an_agent_that_exist(api, user, agent):
    failed(
        api.post("/sessions", {"user_id": UNKNOWN_ID, "agent_id": agent}),
        404,
        f"User with ID '{UNKNOWN_ID}' not found",
        "user_id",
    )
    failed(
        api.post("/sessions", {"user_id": user, "agent_id": UNKNOWN_ID}),
        404,
        f"Agent with ID '{UNKNOWN_ID}' not found",
        "agent_id",
    )
    for body in (
        {},
        {"user_id": user},
        {"agent_id": agent},
        {"user_id": user, "agent_id": agent, "name": ""},
        {"user_id": 1, "agent_id": agent},
    ):
        failed(api.post("/sessions", body), 422)
    assert api.get(f"/sessions?user_id={user}").data["sessions"] == []


def test_sessions_are_listed_newest_first_and_filtered(api, user, agent, fresh):
    other = api.agent(fresh("agent"))
    ids = [api.session(user, a) for a in (agent, other, agent)]

    def listed(query):
        reply = api.get(f"/sessions?{query}")
        assert (reply.status, reply.message) == (200, "Sessions retrieved successfully")
        return [s["id"] for s in reply.data["sessions"]]

    assert listed(f"user_id={user}") == ids[::-1]
    assert listed(f"user_id={user}&agent_id={agent}") == [ids[2], ids[0]]
    assert listed(f"agent_id={other}&user_id=&name=") == [ids[1]]
    assert set(ids) <= set(listed(""))
    failed(api.get(f"/sessions?user_id={UNKNOWN_ID}"), 404, field="user_id")
    failed(api.get(f"/sessions?agent_id={UNKNOWN_ID}"), 404, field="agent_id")


def test_sessions_are_found_by_name(api, user, agent, fresh):
    name = fresh("session")
    session = api.session(user, agent, name)
    for query in (f"name={name}", f"name={name}&user_id={user}", f"name={name}&agent_id={UNKNOWN_ID}"):
        found = api.get(f"/sessions?{query}")
        assert [s["id"] for s in found.data["sessions"]] == [session]
    failed(api.get("/sessions?name=nope"), 404, "Session with name 'nope' not found", "name")
    failed(
        api.get(f"/sessions?name=nope&user_id={user}"),
        404,
        f"Session with name 'nope' not found for user '{user}'",
        "name",
    )
    failed(
        api.get(f"/sessions?name={name}&user_id={UNKNOWN_ID}"),
        404,
        f"Session with name '{name}' not found for user '{UNKNOWN_ID}'",
        "name",
    )


def test_a_session_is_renamed_and_deleted(api, user, agent, fresh):
    session = api.session(user, agent)
    name = fresh("renamed")
    renamed = api.put(f"/sessions/{session}", {"name": name})
    assert (renamed.status, renamed.message) == (200, "Session updated successfully")
    assert renamed.data["session"]["name"] == name
    assert api.put(f"/sessions/{session}", {"name": None}).data["session"]["name"] == name
    failed(api.put(f"/sessions/{session}", {"name": ""}), 422)
    api.add(session, "ephemeral words")
    gone = api.delete(f"/sessions/{session}")
    assert (gone.status, gone.data, gone.message) == (200, {"session_id": session}, "Session deleted successfully")
    assert api.query(user, "ephemeral words") == []
    for call in (
        api.get(f"/sessions/{session}"),
        api.put(f"/sessions/{session}", {"name": "x"}),
        api.delete(f"/sessions/{session}"),
    ):
        failed(call, 404, f"Session with ID '{session}' not found", "session_id")


# --- messages ------------------------------------------------------------------------------------


def test_messages_are_added_and_listed(api, session):
    turns = [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "a"},
        {"role": "system", "content": "s"},
    ]
    made = api.post(f"/sessions/{session}/messages", {"messages": turns})
    assert (made.status, made.message) == (201, "Messages added successfully")
    assert len(made.data["message_ids"]) == 3
    listed = api.get(f"/sessions/{session}/messages")
    assert (listed.status, listed.message, set(listed.data)) == (200, "Messages retrieved successfully", {"messages"})
    for message, turn in zip(reversed(listed.data["messages"]), turns, strict=True):
        check_object(message, MESSAGE_KEYS)
        assert (message["role"], message["content"], message["session_id"]) == (turn["role"], turn["content"], session)
    assert [m["id"] for m in listed.data["messages"]][::-1] == made.data["message_ids"]


def test_metadata_of_a_message_comes_back(api, session):
    message = {"role": "user", "content": "with metadata", "metadata": {"page": 4, "tags": ["x", None], "é": 1.5}}
    made = api.made(f"/sessions/{session}/messages", {"messages": [message]})["message_ids"]
    stored = api.messages(session)[0]
    assert set(stored) == MESSAGE_KEYS | {"metadata"} and stored["metadata"] == message["metadata"]
    assert made == [stored["id"]]


def test_no_messages_are_a_round_of_none(api, session):
    assert api.made(f"/sessions/{session}/messages", {"messages": []})["message_ids"] == []
    assert api.messages(session) == []


GOOD = {"role": "user", "content": "fine"}


@pytest.mark.parametrize(
    "messages",
    [
        [GOOD, {"role": "robot", "content": "x"}],
        [GOOD, {"role": "User", "content": "x"}],
        [GOOD, {"content": "x"}],
        [GOOD, {"role": "user"}],
        [GOOD, {"role": "user", "content": ""}],
        [GOOD, {"role": "user", "content": None}],
        [GOOD, {"role": "user", "content": 5}],
        [GOOD, {"role": 1, "content": "x"}],
        [GOOD, "text"],
        [GOOD, None],
        [GOOD, {"role": "user", "content": {"text": "x"}}],
        GOOD,
        "fine",
        None,
    ],
)
def test_one_bad_message_refuses_the_whole_round(api, session, messages):
    failed(api.post(f"/sessions/{session}/messages", {"messages": messages}), 422)
    assert api.messages(session) == []


def test_a_refusal_names_the_place(api, session):
    reply = api.post(f"/sessions/{session}/messages", {"messages": [GOOD, {"role": "robot", "content": "x"}]})
    assert reply.field == "messages.1.role"
    assert reply.json["detail"][0]["loc"] == ["body", "messages", 1, "role"]
    assert reply.json["detail"][0]["msg"] and reply.json["detail"][0]["type"]


def test_a_body_is_checked_before_the_session_is_looked_up(api):
    path = f"/sessions/{UNKNOWN_ID}/messages"
    failed(api.post(path, {"messages": [{"role": "robot", "content": "x"}]}), 422)
    failed(api.post(path, {"messages": [GOOD]}), 404, f"Session with ID '{UNKNOWN_ID}' not found", "session_id")


def test_an_unknown_session_is_404_on_every_message_route(api):
    path = f"/sessions/{UNKNOWN_ID}/messages"
    message = f"Session with ID '{UNKNOWN_ID}' not found"
    failed(api.get(path), 404, message)
    failed(api.post(path + "/read", {"message_ids": []}), 404, message)
    failed(api.put(path, {"message_ids": [], "new_messages": []}), 404, message)
    failed(api.delete(path, {"message_ids": []}), 404, message)


@pytest.mark.parametrize(
    "query, field, text",
    [
        ("limit=abc", "limit", "Limit must be an integer"),
        ("limit=", "limit", "Limit must be an integer"),
        ("limit=1.5", "limit", "Limit must be an integer"),
        ("limit=0", "limit", "Limit must be greater than 0"),
        ("limit=-3", "limit", "Limit must be greater than 0"),
        ("sort_by=size", "sort_by", None),
        ("sort_by=", "sort_by", None),
        ("order=DESC", "order", None),
        ("order=", "order", None),
        ("buffer_only=maybe", "buffer_only", "buffer_only must be 'true' or 'false'"),
        ("buffer_only=", "buffer_only", "buffer_only must be 'true' or 'false'"),
        ("limit=x&sort_by=y&order=z&buffer_only=w", "limit", None),
        ("sort_by=y&order=z&buffer_only=w", "sort_by", None),
        ("order=z&buffer_only=w", "order", None),
    ],
)
def test_a_bad_list_parameter_is_400_before_the_session_is_looked_up(api, session, query, field, text):
    for target in (session, UNKNOWN_ID):
        reply = api.get(f"/sessions/{target}/messages?{query}")
        failed(reply, 400, f"Invalid {field} parameter", field)
        assert text is None or reply.json["errors"][0]["message"] == text


def test_a_limit_over_the_most_is_cut_without_an_error(api, session):
    for _ in range(3):
        api.add(session, *(f"m{i}" for i in range(40)))
    assert len(api.messages(session)) == 20
    assert len(api.messages(session, limit=100)) == 100
    assert len(api.messages(session, limit=100000)) == 100
    assert len(api.messages(session, limit=99999999999999999999)) == 100
    assert api.texts(session, limit=3) == ["m39", "m38", "m37"]
    assert api.texts(session, limit=3, order="asc") == ["m0", "m1", "m2"]


def test_sorting_by_id_sorts_the_id_texts(api, session):
    ids = api.add(session, *(f"m{i}" for i in range(12)))
    assert [m["id"] for m in api.messages(session, sort_by="id", order="asc")] == sorted(ids)
    assert [m["id"] for m in api.messages(session, sort_by="id")] == sorted(ids, reverse=True)


def test_buffer_only_is_read_in_any_case(api, session):
    api.add(session, "x")
    assert api.texts(session, buffer_only="TRUE") == ["x"]
    assert api.texts(session, buffer_only="False") == []


def test_the_rest_goes_on_exactly_where_the_window_ends(api, session):
    for i in range(9):
        api.add(session, f"q{i}", f"a{i}")
    window = api.texts(session, buffer_only="true", limit=10)
    rest = api.texts(session, buffer_only="false", limit=4)
    assert window + rest == api.texts(session, limit=len(window) + 4)


def test_a_write_elsewhere_leaves_a_session_s_window_alone(api, user, agent):
    first, second = api.session(user, agent), api.session(user, agent)
    api.add(first, "kept")
    for i in range(8):
        api.add(second, f"other {i}")
    assert api.texts(first, buffer_only="true") == ["kept"]


def test_messages_are_read_in_the_order_asked(api, session):
    ids = api.add(session, "one", "two", "three")
    asked = [ids[2], ids[0], ids[2]]
    reply = api.post(f"/sessions/{session}/messages/read", {"message_ids": asked})
    assert (reply.status, reply.message) == (200, "Messages read successfully")
    assert [m["content"] for m in reply.data["messages"]] == ["three", "one", "three"]
    assert api.post(f"/sessions/{session}/messages/read", {"message_ids": []}).data == {"messages": []}


def test_messages_are_updated_in_place(api, session):
    ids = api.add(session, "one", "two")
    before = {m["id"]: m for m in api.messages(session)}
    new = [{"role": "assistant", "content": "TWO"}, {"role": "user", "content": "ONE"}]
    reply = api.put(f"/sessions/{session}/messages", {"message_ids": ids[::-1], "new_messages": new})
    assert (reply.status, reply.data, reply.message) == (
        200,
        {"message_ids": ids[::-1]},
        "Messages updated successfully",
    )
    after = api.messages(session, order="asc")
    assert [(m["id"], m["role"], m["content"]) for m in after] == [
        (ids[0], "user", "ONE"),
        (ids[1], "assistant", "TWO"),
    ]
    for message in after:
        assert message["created_at"] == before[message["id"]]["created_at"]
        assert message["updated_at"] > before[message["id"]]["updated_at"]


def test_unknown_message_ids_fail_whole_requests(api, user, agent):
    session, other = api.session(user, agent), api.session(user, agent)
    mine, foreign = api.add(session, "mine")[0], api.add(other, "foreign")[0]
    for wrong in (UNKNOWN_ID, "nonsense", foreign):
        ids = [mine, wrong]
        new = [GOOD, GOOD]
        for reply in (
            api.post(f"/sessions/{session}/messages/read", {"message_ids": ids}),
            api.put(f"/sessions/{session}/messages", {"message_ids": ids, "new_messages": new}),
            api.delete(f"/sessions/{session}/messages", {"message_ids": ids}),
        ):
            failed(reply, 404, "Some message IDs were not found", "message_ids")
        assert api.texts(session) == ["mine"] and api.texts(other) == ["foreign"]


def test_updating_needs_as_many_texts_as_ids(api, session):
    ids = api.add(session, "one", "two")
    for new in ([GOOD], [GOOD] * 3, []):
        failed(
            api.put(f"/sessions/{session}/messages", {"message_ids": ids, "new_messages": new}),
            400,
            field="new_messages",
        )
    failed(api.put(f"/sessions/{session}/messages", {"message_ids": ids, "new_messages": [GOOD, {"role": "x"}]}), 422)
    assert api.texts(session) == ["two", "one"]


def test_messages_are_deleted_from_a_body(api, session):
    ids = api.add(session, "one", "two", "three")
    reply = api.delete(f"/sessions/{session}/messages", {"message_ids": ids[:2]})
    assert (reply.status, reply.data, reply.message) == (200, {"message_ids": ids[:2]}, "Messages deleted successfully")
    assert api.texts(session) == ["three"]
    failed(api.delete(f"/sessions/{session}/messages", {"message_ids": ids}), 404)
    assert api.texts(session) == ["three"]
    for body in ({}, {"message_ids": "x"}, {"message_ids": [1]}, {"message_ids": None}):
        failed(api.delete(f"/sessions/{session}/messages", body), 422)


def test_old_messages_are_changed_like_recent_ones(api, user, session):
    ids = [api.add(session, f"walrus number {i}")[0] for i in range(14)]
    api.flush(user)
    assert ids[0] not in [m["id"] for m in api.messages(session, buffer_only="true")]
    new = {"message_ids": ids[:1], "new_messages": [{"role": "user", "content": "penguin"}]}
    assert api.put(f"/sessions/{session}/messages", new).status == 200
    assert api.delete(f"/sessions/{session}/messages", {"message_ids": ids[1:2]}).status == 200
    assert [h["id"] for h in api.query(user, "penguin", store_type="keyword")] == ids[:1]
    assert set(h["id"] for h in api.query(user, "walrus", store_type="keyword", top_k=50)) == set(ids[2:])


def test_an_idempotency_key_has_one_effect(api, session):
    headers = {"Idempotency-Key": f"key-{session}"}
    path = f"/sessions/{session}/messages"
    first = api.post(path, {"messages": [GOOD]}, headers=headers)
    again = api.post(path, {"messages": [GOOD]}, headers=headers)
    assert (first.status, again.status) == (201, 201)
    assert first.data["message_ids"] == again.data["message_ids"]
    assert again.headers["Idempotent-Replayed"] == "true"
    failed(api.post(path, {"messages": [{"role": "user", "content": "other"}]}, headers=headers), 400)
    assert api.texts(session) == ["fine"]


# --- knowledge -----------------------------------------------------------------------------------


def test_knowledge_is_added_listed_and_read(api, user):
    made = api.post(f"/users/{user}/knowledge", {"knowledge": ["one", "", "two"]})
    assert (made.status, made.message) == (201, "Knowledge items added successfully")
    assert set(made.data) == {"knowledge_ids"} and len(made.data["knowledge_ids"]) == 3
    ids = made.data["knowledge_ids"]
    listed = api.get(f"/users/{user}/knowledge")
    assert (listed.status, listed.message, set(listed.data)) == (
        200,
        "Knowledge items retrieved successfully",
        {"knowledge"},
    )
    for item in listed.data["knowledge"]:
        check_object(item, KNOWLEDGE_KEYS)
        assert item["user_id"] == user
    assert {i["id"]: i["content"] for i in listed.data["knowledge"]} == dict(zip(ids, ["one", "", "two"], strict=True))
    read = api.post(f"/users/{user}/knowledge/read", {"knowledge_ids": [ids[2], UNKNOWN_ID, "x", ids[0]]})
    assert read.status == 200
    assert [i["content"] for i in read.data["knowledge"]] == ["two", "one"]


def test_empty_lists_of_knowledge_are_fine(api, user):
    path = f"/users/{user}/knowledge"
    assert api.post(path, {"knowledge": []}).data == {"knowledge_ids": []}
    assert api.post(path + "/read", {"knowledge_ids": []}).data == {"knowledge": []}
    assert api.put(path, {"knowledge_ids": [], "new_knowledge": []}).data == {"knowledge_ids": []}
    assert api.delete(path, {"knowledge_ids": []}).data == {"knowledge_ids": []}
    assert api.get(path).data == {"knowledge": []}


def test_knowledge_is_updated_and_deleted_where_it_exists(api, user):
    path = f"/users/{user}/knowledge"
    ids = api.learn(user, "one", "two")
    changed = api.put(path, {"knowledge_ids": [ids[0], UNKNOWN_ID], "new_knowledge": ["ONE", "x", "surplus"]})
    assert (changed.status, changed.data) == (200, {"knowledge_ids": ids[:1]})
    assert changed.message == "Knowledge items updated successfully"
    failed(api.put(path, {"knowledge_ids": ids, "new_knowledge": ["only one"]}), 400)
    assert sorted(i["content"] for i in api.get(path).data["knowledge"]) == ["ONE", "two"]
    gone = api.delete(path, {"knowledge_ids": [UNKNOWN_ID, ids[1]]})
    assert (gone.status, gone.data, gone.message) == (
        200,
        {"knowledge_ids": ids[1:]},
        "Knowledge items deleted successfully",
    )
    assert api.delete(path, {"knowledge_ids": ids[1:]}).data == {"knowledge_ids": []}


def test_knowledge_of_another_user_is_out_of_reach(api, user, fresh):
    other = api.user(fresh("user"))
    foreign = api.learn(other, "private")
    path = f"/users/{user}/knowledge"
    assert api.post(path + "/read", {"knowledge_ids": foreign}).data == {"knowledge": []}
    assert api.put(path, {"knowledge_ids": foreign, "new_knowledge": ["hacked"]}).data == {"knowledge_ids": []}
    assert api.delete(path, {"knowledge_ids": foreign}).data == {"knowledge_ids": []}
    assert [i["content"] for i in api.get(f"/users/{other}/knowledge").data["knowledge"]] == ["private"]


def test_knowledge_of_an_unknown_user_is_404(api):
    path = f"/users/{UNKNOWN_ID}/knowledge"
    message = f"User with ID '{UNKNOWN_ID}' not found"
    for reply in (
        api.get(path),
        api.post(path, {"knowledge": ["x"]}),
        api.post(path + "/read", {"knowledge_ids": []}),
        api.put(path, {"knowledge_ids": [], "new_knowledge": []}),
        api.delete(path, {"knowledge_ids": []}),
    ):
        failed(reply, 404, message, "user_id")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"knowledge": None},
        {"knowledge": "x"},
        {"knowledge": ["ok", 5]},
        {"knowledge": ["ok", None]},
        {"knowledge": {"0": "x"}},
        [],
    ],
)
def test_wrong_knowledge_stores_nothing(api, user, body):
    failed(api.post(f"/users/{user}/knowledge", body), 422)
    assert api.get(f"/users/{user}/knowledge").data == {"knowledge": []}


# --- query ---------------------------------------------------------------------------------------


@pytest.fixture
def memories(api, user, agent, fresh):
    """Two sessions under two agents, and an item of knowledge, all about tea."""
    other_agent = api.agent(fresh("agent"))
    first = api.session(user, agent, "first")
    second = api.session(user, other_agent, "second")
    return {
        "first": first,
        "second": second,
        "other_agent": other_agent,
        "green": api.add(first, "I drink green tea in the morning.")[0],
        "reply": api.add(first, "Green tea it is, without sugar.", role="assistant")[0],
        "black": api.add(second, "In the evening black tea keeps me awake.")[0],
        "known": api.learn(user, "The tea shop is on Mill Street.")[0],
    }


def ids_of(results):
    return {hit["id"] for hit in results}


def test_a_result_has_exactly_its_eight_keys(api, user, memories):
    reply = api.post(f"/users/{user}/query", {"query": "tea", "session_id": memories["first"]})
    assert (reply.status, set(reply.data), reply.message) == (200, {"results", "total"}, "Found 4 results")
    scores = [hit["score"] for hit in reply.data["results"]]
    assert scores == sorted(scores, reverse=True) and all(0 <= score <= 1 for score in scores)
    for hit in reply.data["results"]:
        check_object(hit, RESULT_KEYS)
        meta = hit["metadata"]
        assert meta["user_id"] == user and meta["level"] == 0
        assert isinstance(meta["retrieval"]["source"], str) and meta["retrieval"]["source"]
        if hit["type"] == "knowledge":
            assert hit["id"] == memories["known"]
            assert (hit["role"], meta["session_id"], meta["agent_id"], meta["scope"]) == (None,) * 4
        else:
            in_first = hit["id"] != memories["black"]
            assert hit["role"] == ("assistant" if hit["id"] == memories["reply"] else "user")
            assert meta["session_id"] == memories["first" if in_first else "second"]
            assert meta["session_name"] == ("first" if in_first else "second")
            assert meta["scope"] == ("in_session" if in_first else "cross_session")


def test_results_are_readable_by_their_ids(api, user, memories):
    hit = api.query(user, "green tea", include_knowledge=False)[0]
    read = api.post(f"/sessions/{hit['metadata']['session_id']}/messages/read", {"message_ids": [hit["id"]]})
    assert read.data["messages"][0]["content"] == hit["content"]


def test_an_agent_restricts_messages_but_not_knowledge(api, user, agent, memories):
    assert ids_of(api.query(user, "tea", agent_id=agent)) == {memories["green"], memories["reply"], memories["known"]}
    assert ids_of(api.query(user, "tea", agent_id=memories["other_agent"])) == {memories["black"], memories["known"]}
    both = api.query(user, "tea", agent_id=agent, session_id=memories["second"])
    assert memories["black"] in ids_of(both), "the session that was named belongs to the population"


@pytest.mark.parametrize("top_k, count", [(-1, 0), (0, 0), (1, 1), (2, 2), (1000, 4), (100000, 4), ("3", 3), (2.0, 2)])
def test_any_top_k_is_answered(api, user, memories, top_k, count):
    assert len(api.query(user, "tea", top_k=top_k)) == count


def test_the_usual_number_of_results_is_five(api, user, session):
    api.add(session, *(f"tea number {i}" for i in range(9)))
    assert len(api.query(user, "tea")) == 5


def test_a_query_says_how_its_results_are_ordered(api, user, session):
    for i in range(6):
        api.add(session, "kite " * (i % 3 + 1))
    for _ in range(2):  # the second time from the cache
        for asked, key in (("score", "score"), ("timestamp", "created_at"), (None, "score")):
            for order in ("asc", "desc", None):
                hits = api.query(user, "kite", top_k=5, sort_by=asked, order=order)
                values = [h[key] for h in hits]
                assert len(hits) == 5 and values == sorted(values, reverse=order != "asc")


@pytest.mark.parametrize("store_type", ["vector", "keyword", "graph", None])
def test_each_store_type_answers(api, user, memories, store_type):
    api.flush(user)
    assert memories["green"] in ids_of(api.query(user, "green tea", store_type=store_type))


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"query": None},
        {"query": 5},
        {"query": "x", "store_type": "hybrid"},
        {"query": "x", "store_type": "nonsense"},
        {"query": "x", "store_type": 1},
        {"query": "x", "sort_by": "id"},
        {"query": "x", "sort_by": 1},
        {"query": "x", "order": "ASC"},
        {"query": "x", "top_k": "many"},
        {"query": "x", "top_k": 1.5},
        {"query": "x", "session_id": 5},
        {"query": "x", "include_messages": "perhaps"},
        {"query": "x", "include_knowledge": []},
    ],
)
def test_a_wrong_query_is_422(api, user, body):
    failed(api.post(f"/users/{user}/query", body), 422)


@pytest.mark.parametrize("yes, no", [(True, False), (1, 0), ("true", "false"), ("TRUE", "False")])
def test_flags_are_read_in_every_usual_form(api, user, memories, yes, no):
    assert {h["type"] for h in api.query(user, "tea", include_messages=no, include_knowledge=yes)} == {"knowledge"}


def test_an_empty_question_is_answered(api, user, memories):
    assert api.post(f"/users/{user}/query", {"query": ""}).status == 200
    assert api.post(f"/users/{user}/query", {"query": "   \n\t "}).status == 200


def test_a_user_without_sessions_has_nothing(api, user):
    reply = api.post(f"/users/{user}/query", {"query": "anything"})
    assert (reply.status, reply.data) == (200, {"results": [], "total": 0})
    assert reply.message == "No sessions found for query"


def test_an_unknown_user_session_or_agent_is_named(api, user, session, fresh):
    failed(api.post(f"/users/{UNKNOWN_ID}/query", {"query": "x"}), 404, f"User with ID '{UNKNOWN_ID}' not found")
    failed(
        api.post(f"/users/{user}/query", {"query": "x", "session_id": UNKNOWN_ID}),
        404,
        f"Session '{UNKNOWN_ID}' not found for user '{user}'",
        "session_id",
    )
    failed(
        api.post(f"/users/{user}/query", {"query": "x", "agent_id": UNKNOWN_ID}),
        404,
        f"Agent '{UNKNOWN_ID}' not found",
        "agent_id",
    )
    other = api.user(fresh("user"))
    failed(
        api.post(f"/users/{other}/query", {"query": "x", "session_id": session}),
        404,
        f"Session '{session}' not found for user '{other}'",
        "session_id",
    )


def test_a_question_never_reaches_another_user(api, memories, fresh):
    other = api.user(fresh("user"))
    api.add(api.session(other, api.agent(fresh("agent"))), "coffee only")
    hits = api.query(other, "green tea", top_k=100)
    assert {h["content"] for h in hits} <= {"coffee only"}
    assert all(h["metadata"]["user_id"] == other for h in hits)


def test_an_adapters_question_is_judged_by_its_last_turn(api, user, session):
    api.add(session, "The boiler was repaired by Frida.", "Volcanoes fascinate my nephew.")
    text = "User: hello\\nAssistant: hello, how can I help?\\nUser: who fixed the heating?"
    assert "Frida" in api.query(user, text, top_k=1)[0]["content"]


def test_what_was_just_added_is_found_at_once(api, user, session):
    for i in range(20):
        added = api.add(session, f"Locker {i} holds the umbrella{i}x.")[0]
        assert api.query(user, f"umbrella{i}x", store_type="keyword")[0]["id"] == added


# --- routes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/health", "/users", "/agents", "/sessions"])
def test_a_slash_at_the_end_changes_nothing(api, path):
    assert api.get(path).json == api.get(path + "/").json


def test_every_kind_of_path_takes_a_slash_at_the_end(api, user, session):
    assert api.put(f"/users/{user}/", {"description": "d"}).status == 200
    assert api.post(f"/users/{user}/query/", {"query": "x"}).status == 200
    assert api.post(f"/sessions/{session}/messages/", {"messages": [GOOD]}).status == 201
    assert api.post(f"/users/{user}/api-keys/").status == 200
    assert len(api.get(f"/users/{user}/api-keys").data["api_keys"]) == 1
    assert api.delete(f"/users/{user}/").status == 200


@pytest.mark.parametrize("path", ["/", "/nothing", "/users/x/y/z", "/userss", "/memory/query", "/sessions//messages"])
def test_an_unknown_path_is_404_in_json(api, path):
    assert failed(api.get(path), 404) and failed(api.post(path, {}), 404)


@pytest.mark.parametrize(
    "method, path, allowed",
    [
        ("POST", "/health", {"GET", "HEAD", "OPTIONS"}),
        ("DELETE", "/users", {"GET", "HEAD", "POST", "OPTIONS"}),
        ("POST", "/users/x", {"GET", "HEAD", "PUT", "DELETE", "OPTIONS"}),
        ("GET", "/users/x/query", {"POST", "OPTIONS"}),
        ("PATCH", "/sessions/x/messages", {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"}),
    ],
)
def test_a_wrong_method_is_405_and_says_what_is_allowed(api, method, path, allowed):
    reply = api.call(method, path)
    assert reply.status == 405 and reply.json["detail"] == "Method Not Allowed"
    assert {m.strip() for m in reply.headers["Allow"].split(",")} == allowed


def test_head_is_get_without_the_body(api, user):
    for path in ("/health", "/users", f"/users/{user}", "/nothing"):
        got, head = api.get(path), api.call("HEAD", path)
        assert (head.status, head.body) == (got.status, b"")
        assert head.headers["Content-Length"] == str(len(got.body))


def test_every_reply_carries_a_request_id(api):
    first, second = api.get("/health"), api.get("/nothing")
    assert first.headers["X-Request-Id"] != second.headers["X-Request-Id"]
    assert api.get("/users", headers={"X-Request-Id": "mine-1"}).headers["X-Request-Id"] == "mine-1"


def test_the_description_covers_every_route_of_the_contract(api):
    reply = api.send("GET", "/openapi.json")
    assert reply.status == 200 and reply.headers["Content-Type"].startswith("application/json")
    document = json.loads(reply.body)
    assert document["openapi"].startswith("3.")
    paths = {re.sub(r"^/api/v1", "", path): set(item) for path, item in document["paths"].items()}
    for path, methods in {
        "/health": {"get"},
        "/users": {"get", "post"},
        "/users/{user_id}": {"get", "put", "delete"},
        "/users/{user_id}/query": {"post"},
        "/agents": {"get", "post"},
        "/sessions": {"get", "post"},
        "/sessions/{session_id}/messages": {"get", "post", "put", "delete"},
        "/sessions/{session_id}/messages/read": {"post"},
        "/users/{user_id}/knowledge": {"get", "post", "put", "delete"},
        "/users/{user_id}/api-keys": {"get", "post"},
        "/users/{user_id}/api-keys/{key_id}": {"delete"},
    }.items():
        assert methods <= paths[path], path
    page = api.send("GET", "/docs")
    assert page.status == 200 and page.headers["Content-Type"].startswith("text/html")


@pytest.mark.parametrize("strategy, contents", [
    ("turn", ["a chunk to look at", "and another"]),
    ("message", ["[user]: a chunk to look at\n[user]: and another"]),
    ("contextual", ["[user]: a chunk to look at\n[user]: and another"]),
    ("character", ["[user]: a chunk to look at\n[user]: and another"]),
    ("integrated", ["[user]: a chunk to look at\n[user]: and another"]),
])
def test_chunks_are_those_of_the_strategy(tmp_path, strategy, contents):
    settings = (f"buffer.hybrid_buffer.chunk_strategy={strategy}",)
    with Server(tmp_path, settings=settings) as server, server.api() as api:
        user = api.user("u")
        session = api.session(user, api.agent("a"))
        api.add(session, "a chunk to look at", "and another")
        api.flush(user)
        chunks = api.get(f"/sessions/{session}/chunks?order=asc").data["chunks"]
        assert [chunk["content"] for chunk in chunks] == contents
        assert all(chunk["metadata"]["strategy"] == strategy for chunk in chunks)
        assert all(chunk["metadata"]["embedded"] for chunk in chunks)
        results = api.query(user, "another chunk")
        assert {row["content"] for row in results} == {"a chunk to look at", "and another"}


def test_chunks_can_be_inspected(api, user, session):
    api.add(session, "a chunk to look at", "and another")
    api.flush(user)
    reply = api.get(f"/sessions/{session}/chunks")
    assert reply.status == 200
    assert {"chunks", "total_count", "session_id", "store_type"} <= set(reply.data)
    assert (reply.data["total_count"], reply.data["session_id"], reply.data["store_type"]) == (2, session, "all")
    for chunk in reply.data["chunks"]:
        assert set(chunk) == {"chunk_id", "content", "metadata"} and isinstance(chunk["metadata"], dict)
    stats = api.get(f"/chunks/stats?user_id={user}")
    assert stats.status == 200 and stats.data["total_chunks"] == 2
    failed(api.get("/chunks/stats"), 422)
    failed(api.get(f"/sessions/{UNKNOWN_ID}/chunks"), 404)
    failed(api.get(f"/rounds/{UNKNOWN_ID}/chunks"), 404)
    failed(api.get(f"/sessions/{session}/chunks?store_type=x"), 400)
