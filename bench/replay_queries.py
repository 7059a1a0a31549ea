#!/usr/bin/env python3
"""How often conversations ask again: cache hit rates and times on a replay, caches on and off.

    bench/replay_queries.py BINARY MODEL_DIR FILE.json.gz [--replay chat,questions,assistant]
                            [--conversations N] [--messages N] [--cut CHARACTERS]
                            [--stored FOLDER] [--set key=value ...]

FILE is a list of {turns: [{session, date, speaker, text}], questions: [{question}]}, each
entry a user of its own, or {sessions: {key: [{role, content}]}, questions: [{question}]},
which becomes one large user.  Two servers hold the same data, one with the caches of
answers, one without (buffer.query.cache_size=0).  Every question goes to both, in turns
that swap.  The replays:

  chat       Nothing is stored at first.  Each turn is asked, as an assistant looks for
             what it knows before it replies, and then stored.
  questions  Everything is stored.  The data's questions are asked once, in their order.
  assistant  Everything is stored.  A stream of 1,000 questions: which one follows a Zipf
             distribution (the nth most popular is asked 1/n as often as the first); four
             in ten are worded a little differently (case, "can you tell me", no question
             mark, a word put elsewhere), two in ten ask for 10 results instead of 5, and
             after every 25th question a message is stored.

Printed for each, apart for questions answered from the same question, from a near duplicate
and by a search (as the server counts them): their share, the median time over HTTP on loopback
with caches and without, the median and quartiles of the ratio of the two times, and how much
of what the server without caches found the other one found as well, on average and at worst.
"""
import argparse
import gzip
import http.client
import json
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import eval_locomo
from eval_locomo import call

STREAM, WRITE_EVERY = 1000, 25
SOURCES = {"cache_hits": "same question", "similar_hits": "near duplicate",
           "cache_misses": "search"}


class Server:
    def __init__(self, args, folder, *sets):
        command = [args.binary, "serve", "--data", folder, "--listen", "127.0.0.1:0"]
        for one in (f"model.dir={args.model_dir}", "log.level=warn",
                    "server.rate_limit_per_minute=0", *args.set, *sets):
            command += ["--set", one]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        if not line.startswith("ready http://"):
            sys.exit(f"the server did not start: {line!r}")
        self.conn = http.client.HTTPConnection(line.split("//")[1].strip())

    def call(self, method, path, body=None):
        return call(self.conn, method, "/api/v1" + path, body)

    def flush(self, user):
        while self.call("POST", f"/users/{user}/flush?timeout_ms=20000") is None:
            pass

    def user(self, name):
        return self.call("GET", f"/users?name={name}")["users"][0]["id"]

    def ask(self, user, text, top_k):
        start = time.perf_counter()
        found = self.call("POST", f"/users/{user}/query", {"query": text, "top_k": top_k})
        return time.perf_counter() - start, [row["content"] for row in found["results"]]

    def stop(self):
        self.process.terminate()
        self.process.wait()


def users_of(data, cut):
    """[(name, [import line], [question])] of either form of file."""
    if isinstance(data, dict):
        lines = [{"user": "all", "session": key, "role": turn["role"], "content": turn["content"][:cut]}
                 for key, turns in data["sessions"].items() for turn in turns
                 if turn["content"].strip()]
        return [("all", lines, [q["question"] for q in data["questions"]])]
    users = []
    for index, entry in enumerate(data):
        lines = [{"user": f"c{index}", "session": f"session {turn['session']}", "role": "user",
                  "content": eval_locomo.message(turn)[:cut],
                  "created_at": eval_locomo.iso_date(turn["date"])} for turn in entry["turns"]]
        users.append((f"c{index}", lines, [q["question"] for q in entry["questions"]]))
    return users


def store(server, lines):
    for at in range(0, len(lines), 2000):
        part = "\n".join(json.dumps(line) for line in lines[at:at + 2000]) + "\n"
        server.call("POST", "/import", part.encode())


def reworded(text, rng):
    bare = text.rstrip("?")
    first, _, rest = bare.partition(" ")
    return rng.choice([bare.lower(), f"Can you tell me {text[0].lower()}{text[1:]}",
                       f"{rest}, {first.lower()}?", f"{bare} please?"])


def stream(questions, rng):
    """(text, top_k) of the replay `assistant`."""
    ranked = questions[:]
    rng.shuffle(ranked)
    weights = [1 / (n + 1) for n in range(len(ranked))]
    for text in rng.choices(ranked, weights, k=STREAM):
        yield (reworded(text, rng) if rng.random() < 0.4 else text,
               10 if rng.random() < 0.2 else 5)


def counters(server):
    return server.call("GET", "/status")["queries"]


class Rows:
    """(seconds on, seconds off, share found alike) of the questions by their source."""

    def __init__(self, servers):
        self.servers, self.swap, self.rows = servers, False, {}

    def ask(self, user, text, top_k):
        self.swap = not self.swap
        before = counters(self.servers[0])
        took = {server: server.ask(user[server], text, top_k)
                for server in (self.servers[::-1] if self.swap else self.servers)}
        after = counters(self.servers[0])
        source = next(key for key in SOURCES if after[key] != before[key])
        (on, found), (off, truth) = (took[server] for server in self.servers)
        if len(found) != len(truth):
            sys.exit(f"the servers disagree about {text!r}")
        alike = len(set(found) & set(truth)) / max(1, len(set(truth)))
        self.rows.setdefault(source, []).append((on, off, alike))

    def report(self, name):
        total = sum(map(len, self.rows.values()))
        for source, label in SOURCES.items():
            rows = self.rows.get(source, [])
            print(f"{name:10} {label:15} {len(rows):6} {len(rows) / total:6.1%}", end="")
            if len(rows) > 1:
                on, off, alike = zip(*rows)
                low, middle, high = statistics.quantiles([b / a for a, b, _ in rows], n=4)
                print(f" {statistics.median(on) * 1e3:8.2f} {statistics.median(off) * 1e3:8.2f}"
                      f"   {middle:.2f} ({low:.2f}-{high:.2f})"
                      f"   {statistics.fmean(alike):.4f} {min(alike):.2f}", end="")
            print(flush=True)


def replay(name, rows, user, questions):
    rng = random.Random(7)
    pairs = stream(questions, rng) if name == "assistant" else ((q, 5) for q in questions)
    for n, (text, top_k) in enumerate(pairs):
        rows.ask(user, text, top_k)
        if name == "assistant" and (n + 1) % WRITE_EVERY == 0:
            note = {"user": user["name"], "session": "news", "role": "user",
                    "content": f"Note {n}: {rng.choice(questions)}"}
            for server in rows.servers:
                store(server, [note])
                server.flush(user[server])


def chat(rows, name, lines):
    user = {}
    for line in lines:
        if user:
            rows.ask(user, line["content"], 5)
        for server in rows.servers:
            store(server, [line])
            user.setdefault(server, server.user(name))


def store_all(args, users, folder):
    """Everything stored and embedded in `folder`, unless it is there already."""
    if os.path.exists(f"{folder}/memfuse.db"):
        return
    server = Server(args, folder)
    for name, lines, _ in users:
        store(server, lines)
        server.flush(server.user(name))
    server.stop()


def two_servers(args, folder, origin=None):
    """One with caches and one without, each on a copy of its own."""
    for name in ("on", "off"):
        if origin is not None:
            os.mkdir(f"{folder}/{name}")
            for tail in ("", "-wal"):
                if os.path.exists(f"{origin}/memfuse.db{tail}"):
                    shutil.copy(f"{origin}/memfuse.db{tail}", f"{folder}/{name}")
    return [Server(args, f"{folder}/on"),
            Server(args, f"{folder}/off", "buffer.query.cache_size=0")]


def run_one(args, name, users, origin):
    with tempfile.TemporaryDirectory() as folder:
        if name == "chat":
            servers = two_servers(args, folder)
        else:
            store_all(args, users, origin)
            servers = two_servers(args, folder, origin)
        try:
            rows = Rows(servers)
            for user_name, lines, questions in users:
                if name == "chat":
                    chat(rows, user_name, lines)
                else:
                    user = {server: server.user(user_name) for server in servers}
                    replay(name, rows, {**user, "name": user_name}, questions)
            rows.report(name)
        finally:
            for server in servers:
                server.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary")
    parser.add_argument("model_dir")
    parser.add_argument("file")
    parser.add_argument("--replay", default="chat,questions,assistant")
    parser.add_argument("--conversations", type=int)
    parser.add_argument("--messages", type=int, help="of each user, at most")
    parser.add_argument("--cut", type=int, help="characters of each message, at most")
    parser.add_argument("--stored", help="keep the stored data in this folder, and use it again")
    parser.add_argument("--set", action="append", default=[])
    args = parser.parse_args()
    with gzip.open(args.file, "rt") as f:
        users = users_of(json.load(f), args.cut)[:args.conversations]
    users = [(name, lines[:args.messages], questions) for name, lines, questions in users]
    print(f"{len(users)} users, {sum(len(u[1]) for u in users)} messages, "
          f"{sum(len(u[2]) for u in users)} questions; times in ms")
    print(f"{'replay':10} {'answered from':15} {'asked':>6} {'share':>6} {'on':>8} {'off':>8}"
          "   off / on           alike")
    with tempfile.TemporaryDirectory() as folder:
        for name in args.replay.split(","):
            if not re.fullmatch("chat|questions|assistant", name):
                sys.exit(f"--replay {name}: choose chat, questions or assistant")
            run_one(args, name, users, args.stored or folder)


if __name__ == "__main__":
    main()
