"""What the integration tests stand on: a memfuse process, and a client that trusts nothing.

A Server runs the real binary on a data folder of its own, on a loopback port the system
picks, and is stopped by its process id.  An Api is one kept-alive HTTP connection; every
JSON reply that passes through it is checked against the rules all replies share, so each
test checks them again without saying so.
"""

import http.client
import json
import os
import queue
import re
import signal
import socket
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path


def needed(variable):
    value = os.environ.get(variable)
    if not value or not Path(value).exists():
        raise RuntimeError(f"{variable} must name something that exists, not {value!r}; ctest sets it")
    return Path(value)


BINARY = needed("MEMFUSE_BIN")
MODEL_DIR = needed("MEMFUSE_MODEL_DIR")
RANKS_FILE = needed("MEMFUSE_RANKS_FILE")
SOURCE_DIR = Path(__file__).resolve().parents[2]

PATIENCE_S = 240  # how long anything may take before the test gives up; no claim about speed
UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
UNKNOWN_ID = "00000000-0000-4000-8000-000000000000"

ENVELOPE = {"status", "code", "data", "message", "errors"}


def clean_environment(**more):
    """The environment without settings of memfuse that the caller's shell may hold."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("MEMFUSE_")}
    return {**kept, **more}


def model_settings():
    return [f"model.dir={MODEL_DIR}", f"model.ranks_file={RANKS_FILE}"]


class Server:
    """`memfuse serve` on a folder.  `model=False` leaves the encoder out, which starts faster."""

    def __init__(self, data, *, settings=(), config=None, env=None, model=True, listen=("127.0.0.1:0",)):
        self.data = Path(data)
        self.settings = ["server.rate_limit_per_minute=0", *(model_settings() if model else []), *settings]
        self.config = config
        self.env = env or {}
        self.listen = listen
        self.process = None
        self.addresses = []
        self.log_path = self.data.parent / f"{self.data.name}.log"

    def command(self):
        line = [str(BINARY), "serve", "--data", str(self.data)]
        for address in self.listen:
            line += ["--listen", address]
        if self.config:
            line += ["--config", str(self.config)]
        for setting in self.settings:
            line += ["--set", setting]
        return line

    def start(self):
        self.addresses = []
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env=clean_environment(**self.env),
                text=True,
            )
        lines = queue.Queue()
        threading.Thread(target=self._read, args=(self.process.stdout, lines), daemon=True).start()
        deadline = time.monotonic() + PATIENCE_S
        while len(self.addresses) < max(1, len(self.listen)):
            try:
                line = lines.get(timeout=max(0.1, deadline - time.monotonic()))
            except queue.Empty:
                line = None
            if line is None:
                self.kill()
                raise AssertionError(f"the server did not become ready:\n{self.log()}")
            if line.startswith("ready http://"):
                self.addresses.append(line.split("//", 1)[1].strip())
        return self

    @staticmethod
    def _read(stream, lines):
        for line in stream:
            lines.put(line)
        lines.put(None)

    @property
    def address(self):
        host, port = self.addresses[0].rsplit(":", 1)
        return host.strip("[]"), int(port)

    @property
    def url(self):
        return f"http://{self.addresses[0]}"

    @property
    def pid(self):
        return self.process.pid

    def log(self):
        return self.log_path.read_text(errors="replace")

    def api(self, **options):
        return Api(self.address, **options)

    def api_local(self):
        """Over the socket in the data folder, whose callers are administrators."""
        return Api(self.data / "memfuse.sock")

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def signal(self, number):
        self.process.send_signal(number)

    def stop(self):
        """Asks it to stop; returns its exit code."""
        if self.is_running():
            self.signal(signal.SIGTERM)
        return self.wait()

    def wait(self):
        try:
            code = self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the server did not stop:\n{self.log()}") from None
        self.check_log()
        return code

    def kill(self):
        if self.is_running():
            self.process.kill()
        if self.process:
            self.process.wait()
            self.check_log()

    def check_log(self):
        """No assertion of the program failed, and no sanitizer it was built with complained."""
        log = self.log()
        for mark in ("Sanitizer", "runtime error:", "assertion failed"):
            assert mark not in log, log

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, *_):
        if not self.is_running():
            self.check_log()
            return
        if kind is not None:
            self.kill()
            return
        code = self.stop()
        assert code == 0, f"exit code {code}:\n{self.log()}"


def run_cli(*arguments, data=None, env=None, stdin=None, settings=(), cwd=None):
    """Runs a memfuse command to its end; stdin is text or None."""
    line = [str(BINARY), *map(str, arguments)]
    if data is not None:
        line += ["--data", str(data)]
    for setting in settings:
        line += ["--set", setting]
    return subprocess.run(
        line,
        input=stdin if stdin is not None else "",
        capture_output=True,
        text=True,
        env=clean_environment(**(env or {})),
        timeout=PATIENCE_S,
        cwd=cwd,
    )


@dataclass
class Reply:
    status: int
    headers: http.client.HTTPMessage
    body: bytes
    json: dict | None

    @property
    def data(self):
        return self.json["data"]

    @property
    def message(self):
        return self.json["message"]

    @property
    def field(self):
        return self.json["errors"][0]["field"]


def check_envelope(status, document):
    """The rules every JSON reply keeps."""
    assert isinstance(document, dict), document
    extra = set(document) - ENVELOPE
    assert set(document) >= ENVELOPE, document
    assert document["code"] == status, document
    assert isinstance(document["message"], str) and document["message"], document
    if status < 400:
        assert not extra, document
        assert document["status"] == "success", document
        assert isinstance(document["data"], dict), document
        assert document["errors"] is None, document
        return
    assert document["status"] == "error", document
    assert document["data"] is None, document
    assert document["errors"], document
    for item in document["errors"]:
        assert set(item) == {"field", "message"}, document
        assert isinstance(item["field"], str) and isinstance(item["message"], str), document
    if status == 422:
        assert extra == {"detail"} and document["detail"], document
        for item in document["detail"]:
            assert set(item) == {"loc", "msg", "type"}, document
    else:
        assert extra <= {"detail"}, document


class Api:
    """One kept-alive connection to a server, over TCP or over its local socket."""

    def __init__(self, address, *, headers=None, timeout=PATIENCE_S):
        self.headers = headers or {}
        if isinstance(address, (str, Path)):
            self.connection = UnixConnection(str(address), timeout)
        else:
            self.connection = http.client.HTTPConnection(*address, timeout=timeout)

    def send(self, method, path, body=None, headers=None, raw=None):
        """`body` is sent as JSON; `raw` bytes are sent as they are."""
        sent = {**self.headers, **(headers or {})}
        if body is not None:
            raw = json.dumps(body).encode()
        if raw is not None:
            sent.setdefault("Content-Type", "application/json")
        self.connection.request(method, path, body=raw, headers=sent)
        response = self.connection.getresponse()
        content = response.read()
        return Reply(response.status, response.headers, content, None)

    def call(self, method, path, body=None, headers=None, raw=None):
        reply = self.send(method, "/api/v1" + path, body, headers, raw)
        if method != "HEAD":
            assert reply.headers["Content-Type"].startswith("application/json"), reply
            reply.json = json.loads(reply.body)
            check_envelope(reply.status, reply.json)
        return reply

    def get(self, path, **options):
        return self.call("GET", path, **options)

    def post(self, path, body=None, **options):
        return self.call("POST", path, body, **options)

    def put(self, path, body=None, **options):
        return self.call("PUT", path, body, **options)

    def delete(self, path, body=None, **options):
        return self.call("DELETE", path, body, **options)

    def made(self, path, body):
        reply = self.post(path, body)
        assert reply.status == 201, reply
        return reply.data

    def user(self, name):
        return self.made("/users", {"name": name})["user"]["id"]

    def agent(self, name):
        return self.made("/agents", {"name": name})["agent"]["id"]

    def session(self, user_id, agent_id, name=None):
        body = {"user_id": user_id, "agent_id": agent_id, "name": name}
        return self.made("/sessions", body)["session"]["id"]

    def add(self, session_id, *texts, role="user"):
        """Adds one round with a message per text; returns their ids."""
        messages = [{"role": role, "content": text} for text in texts]
        return self.made(f"/sessions/{session_id}/messages", {"messages": messages})["message_ids"]

    def messages(self, session_id, **parameters):
        query = "&".join(f"{k}={v}" for k, v in parameters.items())
        reply = self.get(f"/sessions/{session_id}/messages?{query}")
        assert reply.status == 200, reply
        return reply.data["messages"]

    def texts(self, session_id, **parameters):
        return [message["content"] for message in self.messages(session_id, **parameters)]

    def learn(self, user_id, *texts):
        return self.made(f"/users/{user_id}/knowledge", {"knowledge": list(texts)})["knowledge_ids"]

    def query(self, user_id, text, **fields):
        reply = self.post(f"/users/{user_id}/query", {"query": text, **fields})
        assert reply.status == 200, reply
        assert reply.data["total"] == len(reply.data["results"])
        return reply.data["results"]

    def flush(self, user_id):
        """Waits until everything of the user has its vector, however many requests that takes."""
        deadline = time.monotonic() + 4 * PATIENCE_S
        while (reply := self.post(f"/users/{user_id}/flush?timeout_ms=20000")).status == 503:
            assert time.monotonic() < deadline, reply
        assert reply.status == 200, reply

    def close(self):
        self.connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Wire:
    """A bare TCP connection, for requests no decent client sends."""

    def __init__(self, server, timeout=PATIENCE_S):
        self.socket = socket.create_connection(server.address, timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.stream = self.socket.makefile("rb")

    def send(self, data):
        """False when the server has already hung up."""
        try:
            self.socket.sendall(data)
            return True
        except (BrokenPipeError, ConnectionResetError):
            return False

    def reply(self):
        """The next reply, or None when the server closed the connection instead."""
        try:
            line = self.stream.readline()
            if not line:
                return None
            version, status, _ = line.decode("latin-1").split(" ", 2)
            assert version in ("HTTP/1.1", "HTTP/1.0"), line
            headers = http.client.parse_headers(self.stream)
            body = self.stream.read(int(headers.get("Content-Length", 0)))
        except ConnectionResetError:
            return None
        return Reply(int(status), headers, body, None)

    def rest(self):
        """All that comes until the server closes its end."""
        try:
            return self.stream.read()
        except ConnectionResetError:
            return b""

    def is_closed(self):
        """Waits for the server's end of the connection to close."""
        try:
            return self.stream.read(1) == b""
        except ConnectionResetError:
            return True

    def finish_sending(self):
        self.socket.shutdown(socket.SHUT_WR)

    def close(self):
        self.stream.close()
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
