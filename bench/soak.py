#!/usr/bin/env python3
"""Mixed load for a long time on a data set of constant size: does memory grow?

    bench/soak.py BINARY MODEL_DIR RANKS_FILE [--seconds 3600] [--rate 50] [--csv FILE]
                  [--folder DIR] [--every 10] [--warmup S] [--seed N] [--set key=value ...]

Starts `BINARY serve` on an empty store and works it over loopback HTTP from four
connections at a moderate rate: adds of one to three messages, some of them long, with and
without idempotency keys; new, repeated and near-duplicate questions; listings of a whole
session, of its window and of the rest; edits, deletes, flushes.  A user that has reached its
size is deleted and another takes its place, so that the data set stays about the same
while everything in it is replaced again and again.  Half of the users do not fit into
`user.active_max`, so that they leave memory and come back all the time.

Every `--every` seconds a line goes to the CSV: the server's VmRSS, RssAnon and RssFile, the
bytes memfuse has allocated, users and requests.  At the end come
the slopes after the warm-up in MB/h: least squares, and Theil-Sen (the median of the slopes
of all pairs, which a few odd samples cannot move), both with 95 % intervals that are widened
by how much neighbouring samples resemble each other (Bartlett's factor for lag 1).

All the time each listing is compared with what was acknowledged; at the end every session
is, before and after a restart.  Exit status 1: something was lost, or a request failed.
"""
import argparse
import csv
import dataclasses
import http.client
import itertools
import json
import math
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

WORDS = """garden train doctor music river kitchen project holiday winter budget sister laptop
coffee market museum bicycle meeting recipe weather ticket school puppy guitar painting running
library dentist moved bought likes visited forgot planned learned called prefers yesterday
tomorrow Lisbon Berlin summer morning evening colour yellow quiet doctor's appointment""".split()  # noqa: SIM905
WORKERS = 4
SESSION_MAX = 90  # one listing shows at most 100
CALM_S = 120  # how long one request may take, retries after 503 included


class Lost(Exception):
    """The server did not keep a promise."""


class Client:
    """One kept-alive connection.  A 503 or 429 is obeyed and counted, anything odd is fatal."""

    def __init__(self, port):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=CALM_S)
        self.busy = 0

    def call(self, method, path, body=None, headers=None):
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", **(headers or {})}
        give_up = time.monotonic() + CALM_S
        while True:
            self.connection.request(method, "/api/v1" + path, data, headers)
            reply = self.connection.getresponse()
            text = reply.read()
            if reply.status not in (429, 503) or time.monotonic() > give_up:
                break
            self.busy += 1
            time.sleep(float(reply.headers.get("Retry-After") or 1))
        if reply.status >= 400:
            raise Lost(f"{method} {path}: {reply.status} {text[:300]!r}")
        return json.loads(text)["data"]


class Server:
    def __init__(self, options):
        self.options = options
        self.process = None
        self.port = 0

    def start(self):
        line = [self.options.binary, "serve", "--data", str(self.options.data), "--listen", "127.0.0.1:0"]
        sets = [
            f"model.dir={self.options.model}",
            f"model.ranks_file={self.options.ranks}",
            "server.rate_limit_per_minute=0",
            "log.level=warn",
            f"user.active_max={max(1, self.options.users // 2)}",
            *self.options.set,
        ]
        for setting in sets:
            line += ["--set", setting]
        self.process = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        for text in self.process.stdout:
            if text.startswith("ready http://127.0.0.1:"):
                self.port = int(text.strip().rsplit(":", 1)[1])
                return
        raise Lost("the server did not start")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(CALM_S)
        if code != 0:
            raise Lost(f"the server left with {code}")

    def memory_kb(self):
        found = {}
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in ("VmRSS", "RssAnon", "RssFile"):
                found[name] = int(value.split()[0])
        return found


def sentence(rng, words):
    return " ".join(rng.choice(WORDS) for _ in range(words))


@dataclasses.dataclass
class User:
    id: str
    agent: str
    sessions: dict = dataclasses.field(default_factory=dict)  # id -> [[message id, content]]
    questions: list = dataclasses.field(default_factory=list)


class Worker(threading.Thread):
    """Owns its users alone, so that it always knows what a listing must show."""

    def __init__(self, number, options, port, stop):
        super().__init__(daemon=True)
        self.number, self.options, self.stop = number, options, stop
        self.rng = random.Random(f"{options.seed}-{number}")
        self.client = Client(port)
        self.users = []
        self.made = 0
        self.marker = 0
        self.times = {}
        self.failure = None

    def new_user(self):
        self.made += 1
        name = f"soak-{self.number}-{self.made}"
        user = self.client.call("POST", "/users", {"name": name})["user"]["id"]
        return User(user, self.options.agent)

    def new_session(self, user):
        body = {"user_id": user.id, "agent_id": user.agent}
        user.sessions[self.client.call("POST", "/sessions", body)["session"]["id"]] = []

    def text(self):
        self.marker += 1
        length = self.rng.choices((8, 25, 60, 700), (50, 35, 13, 2))[0]
        return f"{sentence(self.rng, length)} m{self.number}x{self.marker}"

    def session_of(self, user):
        return self.rng.choice(list(user.sessions))

    # Operations.  Each takes a user and returns its name for the table of times.

    def add(self, user, count=None):
        session = self.session_of(user)
        kept = user.sessions[session]
        texts = [self.text() for _ in range(count or self.rng.randint(1, 3))]
        body = {"messages": [{"role": "user", "content": t} for t in texts]}
        headers = {}
        again = False
        if self.rng.random() < 0.1:
            headers["Idempotency-Key"] = f"{self.number}-{self.marker}"
            again = self.rng.random() < 0.5
        path = f"/sessions/{session}/messages"
        ids = self.client.call("POST", path, body, headers)["message_ids"]
        if again and self.client.call("POST", path, body, headers)["message_ids"] != ids:
            raise Lost(f"a repeated key had another answer in {session}")
        kept += [list(pair) for pair in zip(ids, texts, strict=True)]
        return "add"

    def query(self, user):
        kind = self.rng.random()
        if kind < 0.34 or not user.questions:
            question = f"what about the {sentence(self.rng, 5)}?"
            user.questions = [*user.questions[-9:], question]
        elif kind < 0.67:
            question = self.rng.choice(user.questions)
        else:
            words = self.rng.choice(user.questions).rstrip("?").split()
            if self.rng.random() < 0.5:
                words[self.rng.randrange(3, len(words))] = self.rng.choice(WORDS)
            else:
                self.rng.shuffle(words)
            question = " ".join(words) + "?"
        known = {i for kept in user.sessions.values() for i, _ in kept}
        found = self.client.call("POST", f"/users/{user.id}/query", {"query": question, "top_k": 10})
        for result in found["results"]:
            if result["id"] not in known:
                raise Lost(f"a question found {result['id']}, which is deleted or somebody else's")
        if known and not found["results"]:
            raise Lost(f"a question to {user.id} found nothing")
        return "query"

    def look(self, user):
        session = self.session_of(user)
        path = f"/sessions/{session}/messages?limit=100&sort_by=timestamp&order=asc"
        part = self.rng.random()
        if part < 0.5:
            self.check(session, user.sessions[session])
        else:
            window = self.client.call("GET", path + "&buffer_only=true")["messages"]
            rest = self.client.call("GET", path + "&buffer_only=false")["messages"]
            if [m["id"] for m in rest + window] != [i for i, _ in user.sessions[session]]:
                raise Lost(f"window and rest of {session} are not the session")
        return "list"

    def check(self, session, kept):
        path = f"/sessions/{session}/messages?limit=100&sort_by=timestamp&order=asc"
        shown = self.client.call("GET", path)["messages"]
        if [[m["id"], m["content"]] for m in shown] != kept:
            raise Lost(f"session {session} shows {len(shown)} messages, {len(kept)} were acknowledged")

    def edit(self, user):
        session = self.session_of(user)
        kept = user.sessions[session]
        if not kept:
            return self.add(user)
        entry = self.rng.choice(kept)
        text = self.text()
        body = {"message_ids": [entry[0]], "new_messages": [{"role": "user", "content": text}]}
        self.client.call("PUT", f"/sessions/{session}/messages", body)
        entry[1] = text
        return "edit"

    def delete(self, user):
        session = self.session_of(user)
        kept = user.sessions[session]
        if not kept:
            return self.add(user)
        entry = self.rng.choice(kept)
        self.client.call("DELETE", f"/sessions/{session}/messages", {"message_ids": [entry[0]]})
        kept.remove(entry)
        return "delete"

    def flush(self, user):
        self.client.call("POST", f"/users/{user.id}/flush?timeout_ms=20000")
        return "flush"

    def replace_full(self, i):
        """A user that is full goes, with all it had; an empty one comes."""
        if all(len(kept) + 3 <= SESSION_MAX for kept in self.users[i].sessions.values()):
            return
        self.client.call("DELETE", f"/users/{self.users[i].id}")
        self.users[i] = self.new_user()
        self.new_session(self.users[i])
        self.new_session(self.users[i])

    def step(self):
        i = self.rng.randrange(len(self.users))
        what = self.rng.choices(
            (self.add, self.query, self.look, self.edit, self.delete, self.flush), (45, 27, 12, 8, 6, 2)
        )[0]
        start = time.monotonic()
        name = what(self.users[i])
        times = self.times.setdefault(name, [0, 0.0, 0.0])
        took = time.monotonic() - start
        times[0] += 1
        times[1] += took
        times[2] = max(times[2], took)
        self.replace_full(i)

    def fill(self):
        """Users of every age, so that the data set starts at the size it will keep."""
        for n in range(self.options.users // WORKERS):
            user = self.new_user()
            self.new_session(user)
            self.new_session(user)
            self.users.append(user)
            for _ in range(int(SESSION_MAX * 0.9 * n * WORKERS / self.options.users)):
                self.add(user, 2)
                self.replace_full(n)
                user = self.users[n]

    def run(self):
        try:
            due = time.monotonic()
            while not self.stop.is_set():
                self.step()
                due += self.rng.expovariate(self.options.rate / WORKERS)
                wait = due - time.monotonic()
                if wait > 0:
                    self.stop.wait(wait)
                elif wait < -1:
                    due = time.monotonic()  # behind: no burst afterwards
        except Exception as failure:  # noqa: BLE001 - told by the main thread
            self.failure = failure
            self.stop.set()


# --- the slope ---


def correlation(residuals):
    """Of neighbours, 0..0.99."""
    above = sum(a * b for a, b in itertools.pairwise(residuals))
    below = sum(r * r for r in residuals)
    return min(0.99, max(0.0, above / below)) if below > 0 else 0.0


def least_squares(x, y):
    """Slope, half of its 95 % interval."""
    n = len(x)
    mx, my = statistics.fmean(x), statistics.fmean(y)
    sxx = sum((a - mx) ** 2 for a in x)
    slope = sum((a - mx) * (b - my) for a, b in zip(x, y)) / sxx
    residuals = [b - my - slope * (a - mx) for a, b in zip(x, y)]
    r = correlation(residuals)
    error = math.sqrt(sum(e * e for e in residuals) / (n - 2) / sxx * (1 + r) / (1 - r))
    return slope, 1.96 * error, r


def theil_sen(x, y, r):
    """Median of all pairs' slopes and the 95 % interval of Sen (1968), widened by `r`."""
    n = len(x)
    slopes = sorted((y[j] - y[i]) / (x[j] - x[i]) for i in range(n) for j in range(i + 1, n))
    spread = 1.96 * math.sqrt(n * (n - 1) * (2 * n + 5) / 18 * (1 + r) / (1 - r))
    low = max(0, int((len(slopes) - spread) / 2))
    high = min(len(slopes) - 1, int((len(slopes) + spread) / 2) + 1)
    return statistics.median(slopes), slopes[low], slopes[high]


def print_slopes(rows, warmup):
    late = [row for row in rows if row["seconds"] >= warmup]
    if len(late) < 10:
        print(f"{len(late)} samples after the warm-up: too few for a slope")
        return
    print(f"slopes over {len(late)} samples, {late[0]['seconds']:.0f} s to {late[-1]['seconds']:.0f} s, in MB/h:")
    for name in ("VmRSS", "RssAnon", "allocated"):
        points = [(row["seconds"] / 3600, row[name] / 1e6) for row in late]
        x, y = zip(*points)
        slope, half, r = least_squares(x, y)
        middle, low, high = theil_sen(x, y, r)
        print(
            f"  {name:10s} least squares {slope:+8.3f} +- {half:.3f}   Theil-Sen {middle:+8.3f}"
            f" [{low:+.3f}..{high:+.3f}]   first {y[0]:.1f} MB, last {y[-1]:.1f}, most {max(y):.1f}"
        )


# --- the run ---


def sample(server, client, workers, start):
    status = client.call("GET", "/status")
    memory = server.memory_kb()
    return {
        "seconds": round(time.monotonic() - start, 1),
        **{name: kb * 1024 for name, kb in memory.items()},
        "allocated": round(client.call("GET", "/admin/memory")["budget"]["allocated_mb"] * 2**20),
        "index_bytes": status["index"]["bytes"],
        "users_active": status["users_active"]["count"],
        "messages": status["store"]["messages"],
        "requests": sum(t[0] for w in workers for t in list(w.times.values())),
    }


def measure(server, client, workers, options, stop):
    rows = []
    start = time.monotonic()
    with open(options.csv, "w", newline="") as out:
        table = None
        while not stop.is_set() and time.monotonic() - start < options.seconds:
            row = sample(server, client, workers, start)
            if table is None:
                table = csv.DictWriter(out, row)
                table.writeheader()
            table.writerow(row)
            out.flush()
            rows.append(row)
            left = options.seconds - (time.monotonic() - start)
            stop.wait(max(0.0, min(options.every - (time.monotonic() - start) % options.every, left)))
    stop.set()
    return rows


def check_everything(workers, port):
    count = 0
    for worker in workers:
        worker.client = Client(port)
        for user in worker.users:
            for session, kept in user.sessions.items():
                worker.check(session, kept)
                count += len(kept)
    return count


def print_load(workers, client, seconds):
    print(f"requests by kind over {seconds:.0f} s (count, mean ms, longest ms):")
    for name in ("add", "query", "list", "edit", "delete", "flush"):
        times = [w.times.get(name, [0, 0.0, 0.0]) for w in workers]
        count = sum(t[0] for t in times)
        mean = sum(t[1] for t in times) / count * 1e3 if count else 0
        print(f"  {name:7s} {count:8d} {mean:9.2f} {max(t[2] for t in times) * 1e3:9.1f}")
    print(f"  asked to wait (503, 429): {sum(w.client.busy for w in workers)}")
    status = client.call("GET", "/status")
    queries = status["query"]
    rate = 100 * queries["cache_hits"] / max(1, queries["cache_hits"] + queries["cache_misses"])
    print(f"  users made and deleted: {sum(w.made - len(w.users) for w in workers)}")
    print(f"  messages held at the end: {status['store']['messages']}; answers from the cache: {rate:.0f} %")


def run(options):
    server = Server(options)
    server.start()
    try:
        client = Client(server.port)
        options.agent = client.call("POST", "/agents", {"name": "soak"})["agent"]["id"]
        stop = threading.Event()
        workers = [Worker(i, options, server.port, stop) for i in range(WORKERS)]
        for worker in workers:
            worker.fill()
            worker.times.clear()
        for worker in workers:
            worker.start()
        rows = measure(server, client, workers, options, stop)
        for worker in workers:
            worker.join()
            if worker.failure:
                raise worker.failure
        print_load(workers, client, rows[-1]["seconds"])
        print_slopes(rows, options.warmup)
        check_everything(workers, server.port)
        server.stop()
        server.start()
        count = check_everything(workers, server.port)
        print(f"nothing lost: {count} messages listed as acknowledged, before and after a restart")
        server.stop()
    finally:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary")
    parser.add_argument("model")
    parser.add_argument("ranks")
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--rate", type=float, default=50, help="requests a second")
    parser.add_argument("--users", type=int, default=80, help="alive at any time")
    parser.add_argument("--every", type=float, default=10, help="seconds between samples")
    parser.add_argument("--warmup", type=float, help="seconds left out of the slope; default: a third")
    parser.add_argument("--csv", default="soak.csv")
    parser.add_argument("--folder", help="where the store is made and removed; default: the temporary folder")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    if options.warmup is None:
        options.warmup = options.seconds / 3  # the caches of vectors take most of it to fill
    print(
        f"soak: {options.seconds:.0f} s at {options.rate:.0f} requests/s, {options.users} users, "
        f"seed {options.seed}, samples in {options.csv}",
        flush=True,
    )
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="memfuse-soak-") as folder:
        options.data = Path(folder) / "data"
        try:
            run(options)
        except Lost as failure:
            sys.exit(f"soak: {failure}")


if __name__ == "__main__":
    main()
