#!/usr/bin/env python3
"""What a larger commit threshold gains while much waits to be embedded.

    bench/commit_threshold.py MEMFUSE --model FOLDER [--turns N] [--messages N]

Starts a server, imports messages of one user, and waits until all of them are embedded
and committed: once with the hybrid buffer's usual bound of 5 rounds, once with one that
is never reached, by turns.  The ratio of the two is the most that a threshold which grows
with the backlog could gain.
"""
import argparse
import json
import random
import statistics
import subprocess
import tempfile
import time
import urllib.request

WORDS = ("garden train doctor music river kitchen window letter summer market bridge paper "
         "winter teacher silver island coffee engine forest travel").split()


def lines(count, seed):
    pick = random.Random(seed)
    return "\n".join(
        json.dumps({"user": "u", "session": f"s{i % 20}", "role": "user",
                    "content": " ".join(pick.choice(WORDS) for _ in range(25)) + f" {seed} {i}"})
        for i in range(count)).encode()


def call(base, path, body=None):
    headers = {"Content-Type": "application/json"} if body else {}
    request = urllib.request.Request(base + path, body, headers, method="POST" if body is not None else "GET")
    with urllib.request.urlopen(request, timeout=600) as reply:
        return json.load(reply)["data"]


def run(args, rounds, seed):
    with tempfile.TemporaryDirectory() as folder:
        command = [args.memfuse, "serve", "--data", folder]
        for setting in (f"server.port={args.port}", f"model.dir={args.model}",
                        f"buffer.hybrid_buffer.max_size={rounds}",
                        "buffer.hybrid_buffer.max_bytes=1073741824",
                        "server.request_timeout_ms=600000"):
            command += ["--set", setting]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        base = f"http://127.0.0.1:{args.port}/api/v1"
        try:
            while True:
                try:
                    call(base, "/health")
                    break
                except OSError:
                    time.sleep(0.05)
            started = time.monotonic()
            call(base, "/import", lines(args.messages, seed))
            user = call(base, "/users?name=u")["users"][0]["id"]
            while call(base, "/status")["index"]["vectors"] < args.messages:
                time.sleep(0.02)  # a flush that begins earlier would commit each slice
            call(base, f"/users/{user}/flush?timeout_ms=600000", b"")
            seconds = time.monotonic() - started
            return seconds, call(base, "/status")["hybrid"]["flush_operations"]
        finally:
            server.terminate()
            server.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("memfuse")
    parser.add_argument("--model", required=True)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--messages", type=int, default=3000)
    parser.add_argument("--port", type=int, default=18556)
    args = parser.parse_args()
    ratios = []
    for turn in range(args.turns):
        order = (5, 10000) if turn % 2 == 0 else (10000, 5)
        took = {rounds: run(args, rounds, turn) for rounds in order}
        ratios.append(took[5][0] / took[10000][0])
        print(f"turn {turn}: bound of 5 rounds {took[5][0]:.2f} s in {took[5][1]} commits, "
              f"no bound {took[10000][0]:.2f} s in {took[10000][1]}, ratio {ratios[-1]:.3f}", flush=True)
    print(f"ratio of times, bound of 5 to none: median {statistics.median(ratios):.3f} "
          f"[{min(ratios):.3f}..{max(ratios):.3f}]")


if __name__ == "__main__":
    main()
