#!/usr/bin/env python3
"""Retrieval on LoCoMo-style data through the product's own write and query path.

    bench/eval_locomo.py BINARY MODEL_DIR FILE.json.gz [--list N] [--set key=value ...]

FILE holds a list of {conversation, turns: [{id, session, date, speaker, text, caption?}],
questions: [{question, category, evidence: [turn id]}]}.  Every conversation becomes one
user of an empty server; its turns are imported in order, each as one message "Speaker:
text" with the caption behind it and the session's date as the message time.  With --list,
N turns of a session that follow each other are one list, as of one add.  A question
is one query; a result counts for the turn it came from.  Printed: recall@k and hit@k per
category and overall with a bootstrap 95 % interval, MRR, nDCG@10, and time per query.
"""
import argparse
import datetime
import gzip
import http.client
import json
import math
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time

KS = (5, 10, 20, 50)


def call(conn, method, path, body=None):
    data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
    conn.request(method, path, data, {"Content-Type": "application/json"})
    reply = conn.getresponse()
    text = reply.read()
    if reply.status == 503 and "/flush" in path:
        return None
    if reply.status >= 400:
        sys.exit(f"{method} {path}: {reply.status} {text[:300]!r}")
    return json.loads(text)["data"]


def iso_date(text):
    """LoCoMo writes '1:56 pm on 8 May, 2023'."""
    match = re.match(r"(\d+):(\d+) (am|pm) on (\d+) (\w+), (\d+)", text)
    if not match:
        return text
    hour = int(match[1]) % 12 + (12 if match[3] == "pm" else 0)
    month = datetime.datetime.strptime(match[5][:3], "%b").month
    return f"{int(match[6]):04}-{month:02}-{int(match[4]):02}T{hour:02}:{int(match[2]):02}:00Z"


def message(turn):
    text = f"{turn['speaker']}: {turn['text']}"
    return text + (f" [image: {turn['caption']}]" if turn.get("caption") else "")


def import_conversation(conn, index, conversation, per_list):
    lines, where, seen = [], {}, {}
    for turn in conversation["turns"]:
        session = f"session {turn['session']}"
        place = seen[session] = seen.get(session, -1) + 1
        lines.append(json.dumps({
            "user": f"c{index}", "session": session, "role": "user",
            "round": f"{session} {place // per_list}",
            "content": message(turn), "created_at": iso_date(turn["date"])}))
    call(conn, "POST", "/api/v1/import", ("\n".join(lines) + "\n").encode())
    user = call(conn, "GET", f"/api/v1/users?name=c{index}")["users"][0]["id"]
    while call(conn, "POST", f"/api/v1/users/{user}/flush?timeout_ms=20000") is None:
        pass  # a request is short; embedding may take longer
    for turn in conversation["turns"]:
        where.setdefault((f"session {turn['session']}", message(turn)), []).append(turn["id"])
    return user, where


def turns_of(results, where):
    """Turn ids in rank order; equal texts of one session are taken in order."""
    used, ranked = {}, []
    for row in results:
        key = (row["metadata"]["session_name"], row["content"])
        ids = where[key]
        ranked.append(ids[min(used.get(key, 0), len(ids) - 1)])
        used[key] = used.get(key, 0) + 1
    return ranked


def measures(ranked, evidence):
    wanted = set(evidence)
    row = {}
    for k in KS:
        found = len(wanted & set(ranked[:k]))
        row[f"recall@{k}"] = found / len(wanted)
        row[f"hit@{k}"] = float(found > 0)
    first = next((i for i, t in enumerate(ranked) if t in wanted), None)
    row["mrr"] = 1 / (first + 1) if first is not None else 0.0
    gain = sum(1 / math.log2(i + 2) for i, t in enumerate(ranked[:10]) if t in wanted)
    ideal = sum(1 / math.log2(i + 2) for i in range(min(10, len(wanted))))
    row["ndcg@10"] = gain / ideal
    return row


def interval(values, rounds=2000):
    rng = random.Random(1)
    means = sorted(statistics.fmean(rng.choices(values, k=len(values))) for _ in range(rounds))
    return means[int(0.025 * rounds)], means[int(0.975 * rounds)]


def report(rows):
    groups = {"overall": rows, "overall 1-4": [r for r in rows if r["category"] != 5]}
    for category in sorted({r["category"] for r in rows}):
        groups[f"category {category}"] = [r for r in rows if r["category"] == category]
    print(f"{'':13} {'n':>4} {'r@5':>6} {'r@10':>6} {'95 %':>13} {'r@20':>6} {'r@50':>6} "
          f"{'hit@10':>6} {'mrr':>6} {'ndcg':>6}")
    for name, group in groups.items():
        mean = {k: statistics.fmean(r[k] for r in group) for k in group[0] if k != "category"}
        low, high = interval([r["recall@10"] for r in group])
        print(f"{name:13} {len(group):4} {mean['recall@5']:6.3f} {mean['recall@10']:6.3f} "
              f"{low:6.3f}-{high:.3f} {mean['recall@20']:6.3f} {mean['recall@50']:6.3f} "
              f"{mean['hit@10']:6.3f} {mean['mrr']:6.3f} {mean['ndcg@10']:6.3f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary")
    parser.add_argument("model_dir")
    parser.add_argument("file")
    parser.add_argument("--list", type=int, default=1)
    parser.add_argument("--set", action="append", default=[])
    args = parser.parse_args()
    with gzip.open(args.file, "rt") as f:
        data = json.load(f)
    with tempfile.TemporaryDirectory() as folder:
        command = [args.binary, "serve", "--data", folder, "--listen", "127.0.0.1:0", "--set",
                   f"model.dir={args.model_dir}", "--set", "log.level=warn", "--set",
                   "server.rate_limit_per_minute=0"]
        for one in args.set:
            command += ["--set", one]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            address = re.match(r"ready http://(\S+)", server.stdout.readline())[1]
            conn = http.client.HTTPConnection(address)
            rows, times, started = [], [], time.monotonic()
            for index, conversation in enumerate(data):
                user, where = import_conversation(conn, index, conversation,
                                                  args.list)
                for question in conversation["questions"]:
                    start = time.perf_counter()
                    found = call(conn, "POST", f"/api/v1/users/{user}/query",
                                 {"query": question["question"], "top_k": 50})
                    times.append(time.perf_counter() - start)
                    ranked = turns_of(found["results"], where)
                    rows.append({"category": question["category"],
                                 **measures(ranked, question["evidence"])})
                print(f"conversation {index + 1}/{len(data)}", file=sys.stderr)
        finally:
            server.terminate()
            server.wait()
    report(rows)
    times.sort()
    print(f"query over HTTP, top 50: p50 {times[len(times) // 2] * 1e3:.2f} ms, "
          f"p99 {times[int(len(times) * 0.99)] * 1e3:.2f} ms; "
          f"{time.monotonic() - started:.0f} s in all")


if __name__ == "__main__":
    main()
