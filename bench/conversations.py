#!/usr/bin/env python3
"""Conversations as the lines that `memfuse import` and bench_compression read.

    bench/conversations.py FILE.json.gz >lines.jsonl

FILE is LoCoMo-style (a list of {conversation, turns}) or LongMemEval-style ({sessions}).
Every session keeps its order; in the second kind each is a user of its own.
"""
import gzip
import json
import sys


def lines_of(data):
    if isinstance(data, list):
        for index, conversation in enumerate(data):
            for turn in conversation["turns"]:
                yield (f"c{index}", f"session {turn['session']}", "user",
                       f"{turn['speaker']}: {turn['text']}")
    else:
        for key, turns in data["sessions"].items():
            for turn in turns:
                yield key, key, turn["role"], turn["content"]


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with gzip.open(sys.argv[1], "rt") as f:
        data = json.load(f)
    for user, session, role, content in lines_of(data):
        if content.strip():
            line = {"user": user, "session": session, "role": role, "content": content}
            print(json.dumps(line, ensure_ascii=False))


main()
