"""Requests that no decent client sends.  A refusal is a 4xx and a closed connection, or just
the close; it is never two readings of one request, and nothing of it is stored.
"""

import json
import os
import re
import select
import socket
import struct
import time

import pytest
from harness import ENVELOPE, PATIENCE_S, Server, Wire

SERVER = {"model": False}

BODY = b'{"name":"smuggled"}'
INNER = b"POST /api/v1/users HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)


@pytest.fixture(autouse=True)
def survives(server):
    pid = server.pid
    yield
    assert server.is_running() and server.pid == pid
    with server.api() as api:
        assert api.get("/health").status == 200
        smuggled = api.get("/users?name=smuggled")
        if smuggled.status == 200:
            api.delete("/users/" + smuggled.data["users"][0]["id"])
        assert smuggled.status == 404, "a refused request had an effect"


def request(*headers, body=b"", line=b"POST /api/v1/users HTTP/1.1", host=b"Host: localhost"):
    return b"\r\n".join([line, *([host] if host else []), *headers, b"", b""]) + body


def refused(server, data):
    """Sends `data`; asserts that errors are all that comes back, and that the connection ends."""
    with Wire(server, timeout=20) as wire:  # shorter than any deadline of the server's
        wire.send(data)
        answer = wire.rest()
    statuses = [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3}) ", answer)]
    assert all(400 <= status < 600 for status in statuses), answer
    assert statuses or not answer, answer


CHUNKED = b"Transfer-Encoding: chunked"
LENGTH = b"Content-Length: %d" % len(BODY)

REFUSED = {
    "length and chunks": request(b"Content-Length: 5", CHUNKED, body=b"0\r\n\r\n" + INNER),
    "chunks and length": request(CHUNKED, b"Content-Length: 5", body=b"0\r\n\r\n" + INNER),
    "two lengths": request(b"Content-Length: 0", LENGTH, body=BODY),
    "two lengths in one": request(b"Content-Length: 0, %d" % len(BODY), body=BODY),
    "a signed length": request(b"Content-Length: +%d" % len(BODY), body=BODY),
    "a negative length": request(b"Content-Length: -1", body=BODY),
    "a length in hexadecimal": request(b"Content-Length: 0x13", body=BODY),
    "a length that is no number": request(b"Content-Length: many", body=BODY),
    "a length beyond any number": request(b"Content-Length: 99999999999999999999999", body=BODY),
    "an empty length": request(b"Content-Length:", body=BODY),
    "a chunk size that is no number": request(CHUNKED, body=b"zz\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "a negative chunk size": request(CHUNKED, body=b"-13\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "a huge chunk size": request(CHUNKED, body=b"ffffffffffffffffff\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "a chunk without its end": request(CHUNKED, body=b"13\r\n" + BODY + b"XX0\r\n\r\n"),
    "a space before the colon": request(b"Content-Length : %d" % len(BODY), body=BODY),
    "a header without a colon": request(b"Nonsense", LENGTH, body=BODY),
    "a header without a name": request(b": value", LENGTH, body=BODY),
    "no host": request(LENGTH, host=None, body=BODY),
    "two hosts": request(b"Host: localhost", LENGTH, body=BODY),
    "an unknown coding": request(b"Transfer-Encoding: gzip", LENGTH, body=BODY),
    "a coding twice": request(b"Transfer-Encoding: chunked, chunked", body=b"0\r\n\r\n" + INNER),
    "a version of tomorrow": request(LENGTH, line=b"POST /api/v1/users HTTP/3.0", body=BODY),
    "no version": b"POST /api/v1/users\r\n\r\n",
    "the oldest protocol": b"GET /api/v1/health\r\n",
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00",
    "a line of words": b"hello how are you\r\n\r\n",
    "a huge header": request(b"X-Big: " + b"x" * 300_000, LENGTH, body=BODY),
    "a hundred thousand headers": request(*[b"X-%d: y" % i for i in range(100_000)], LENGTH, body=BODY),
    "a huge path": request(LENGTH, line=b"POST /" + b"x" * 300_000 + b" HTTP/1.1", body=BODY),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_and_the_connection_ends(server, name):
    refused(server, REFUSED[name])


def test_a_foreign_host_is_refused(server):
    """A page whose name was made to point here must not reach the data."""
    for host in (b"evil.example", b"evil.example:80", b"localhost.evil.example", b"127.0.0.1.evil.example"):
        with Wire(server) as wire:
            wire.send(request(LENGTH, host=b"Host: " + host, body=BODY))
            reply = wire.reply()
            assert reply is None or reply.status in (400, 403), (host, reply)


@pytest.mark.parametrize("header", [b"X-Folded: a\r\n b", b"X-Nul: a\x00b", b"X-Bare: a\rb"])
def test_a_header_that_is_read_differently_elsewhere_is_read_as_one(server, fresh, header):
    body = json.dumps({"name": fresh("odd header")}).encode()
    with Wire(server) as wire:
        wire.send(
            request(header, b"Content-Length: %d" % len(body), b"Content-Type: application/json", body=body)
            + request(line=b"GET /api/v1/health HTTP/1.1")
        )
        reply = wire.reply()
        assert reply is None or reply.status in (201, 400)
        if reply is not None and reply.status == 201:
            assert wire.reply().status == 200


def test_a_huge_body_that_is_only_announced_is_413(server):
    with Wire(server) as wire:
        wire.send(request(b"Content-Length: 1000000000000"))
        reply = wire.reply()
    assert reply is not None and reply.status == 413
    assert set(json.loads(reply.body)) >= ENVELOPE


def test_refusals_of_the_protocol_are_envelopes_where_there_is_a_request(server):
    for path, status in ((b"/api/v1/none", 404), (b"/x", 404), (b"/api/v1/users?name=nobody-at-all", 404)):
        with Wire(server) as wire:
            wire.send(request(line=b"GET " + path + b" HTTP/1.1"))
            reply = wire.reply()
        assert reply.status == status and set(json.loads(reply.body)) >= ENVELOPE


def test_pages_of_other_sites_are_kept_out(server):
    with server.api() as api:
        for origin in ("http://evil.example", "null", "https://localhost.evil.example"):
            assert api.post("/users", {"name": "smuggled"}, headers={"Origin": origin}).status == 403
            preflight = api.send("OPTIONS", "/api/v1/users", headers={"Origin": origin})
            assert "Access-Control-Allow-Origin" not in preflight.headers


def test_chunks_with_extensions_and_trailers_are_a_body(server, fresh):
    body = json.dumps({"name": fresh("chunked")}).encode()
    with Wire(server) as wire:
        wire.send(
            request(
                CHUNKED,
                b"Content-Type: application/json",
                body=b"5;a=b\r\n" + body[:5] + b"\r\n%x\r\n" % len(body[5:]) + body[5:] + b"\r\n0\r\nX-T: y\r\n\r\n",
            )
        )
        assert wire.reply().status == 201


def test_a_client_that_waits_for_a_go_ahead_gets_it(server, fresh):
    body = json.dumps({"name": fresh("expecting")}).encode()
    with Wire(server) as wire:
        wire.send(
            request(b"Content-Length: %d" % len(body), b"Content-Type: application/json", b"Expect: 100-continue")
        )
        assert wire.stream.readline().startswith(b"HTTP/1.1 100")
        assert wire.stream.readline() == b"\r\n"
        wire.send(body)
        assert wire.reply().status == 201


def test_requests_sent_together_are_answered_in_order(server, fresh):
    name = fresh("pipelined")
    body = json.dumps({"name": name}).encode()
    post = request(b"Content-Length: %d" % len(body), b"Content-Type: application/json", body=body)
    with Wire(server) as wire:
        wire.send(
            request(line=b"GET /api/v1/health HTTP/1.1")
            + post
            + post
            + request(line=b"GET /api/v1/none HTTP/1.1")
            + request(line=f"GET /api/v1/users?name={name} HTTP/1.1".encode())
        )
        assert [wire.reply().status for _ in range(5)] == [200, 201, 400, 404, 200]


def test_a_client_that_has_finished_sending_still_gets_its_answer(server, fresh):
    body = json.dumps({"name": fresh("half-closed")}).encode()
    with Wire(server) as wire:
        wire.send(request(b"Content-Length: %d" % len(body), b"Content-Type: application/json", body=body))
        wire.finish_sending()
        assert wire.reply().status == 201
        assert wire.is_closed()


def test_a_body_that_stops_half_way_stores_nothing(server):
    with Wire(server) as wire:
        wire.send(request(LENGTH, body=BODY[:10]))
        wire.finish_sending()
        assert wire.reply() is None or wire.is_closed()


def open_files(server):
    return len(os.listdir(f"/proc/{server.pid}/fd"))


def wait_until(holds):
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_reset_after_any_byte_leaks_nothing(server):
    with server.api() as api:
        api.get("/users")
    before = open_files(server)
    data = request(
        b"Content-Type: application/json", b"Content-Length: 200", body=b'{"name":"smuggled","x":' + b" " * 100
    )
    for end in range(0, len(data), 3):
        wire = Wire(server)
        wire.send(data[:end])
        wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        wire.close()
    wait_until(lambda: open_files(server) <= before)


def test_many_idle_connections_do_not_keep_others_out(server):
    wires = [Wire(server) for _ in range(200)]
    try:
        with server.api() as api:
            assert api.get("/users").status == 200
    finally:
        for wire in wires:
            wire.close()


def test_an_encoded_dot_dot_or_nul_opens_nothing(server):
    for path in (
        b"/%2e%2e/%2e%2e/etc/passwd",
        b"/api/v1/../../etc/passwd",
        b"/api/v1/users/%00",
        b"/docs/../x",
        b"//etc/passwd",
        b"/api/v1/%252e%252e/x",
    ):
        with Wire(server) as wire:
            wire.send(request(line=b"GET " + path + b" HTTP/1.1"))
            reply = wire.reply()
            assert reply is not None and reply.status in (400, 404) and b"root:" not in reply.body


@pytest.fixture(scope="module")
def impatient(tmp_path_factory):
    with Server(
        tmp_path_factory.mktemp("impatient") / "data",
        model=False,
        settings=["server.request_timeout_ms=1000", "server.idle_timeout_s=3"],
    ) as running:
        yield running


@pytest.mark.parametrize(
    "noise",
    [bytes.fromhex("16030100c8010000c40303") + os.urandom(190), b"\x00\x00\x00\x00\r\n\r\n"],
    ids=["TLS", "zeros"],
)
def test_noise_is_cut_off_at_the_latest_as_idle(impatient, noise):
    with Wire(impatient) as wire:
        wire.send(noise)
        reply = wire.reply()
        assert reply is None or 400 <= reply.status < 600
        assert wire.is_closed()


@pytest.mark.parametrize("start", [b"", request(b"Content-Length: 100000")], ids=["headers", "body"])
def test_a_byte_at_a_time_is_cut_off_by_the_deadline_of_the_whole_request(impatient, start):
    """Each byte comes well within any idle time-out; only a total deadline can end this."""
    drip = b"GET /api/v1/health HTTP/1.1\r\nX-Slow: " + b"x" * 100_000 if not start else b"x" * 100_000
    with Wire(impatient) as wire:
        wire.send(start)
        deadline = time.monotonic() + PATIENCE_S
        for position in range(len(drip)):
            if not wire.send(drip[position : position + 1]):
                break
            if select.select([wire.socket], [], [], 0.05)[0]:
                break
            assert time.monotonic() < deadline, "the request was never cut off"
        reply = wire.reply()
        assert reply is None or reply.status in (408, 503), reply
        assert reply is None or wire.is_closed()
    with impatient.api() as api:
        assert api.get("/users").status == 200
