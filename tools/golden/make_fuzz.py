#!/usr/bin/env python3
"""Writes tests/data/golden/fuzz.jsonl: what the reference tokenizers make of fuzzed bytes.

    /tmp/golden/bin/python tools/golden/make_fuzz.py DATA/models

See make_goldens.py for the environment.  A line has an input in one of three forms,

    {"bytes": base64}
    {"unit": base64, "times": n}          n copies one behind the other
    {"seed": s, "size": n, "alphabet": base64}   n draws from the alphabet: with
        s = (s * 6364136223846793005 + 1442695040888963407) mod 2^64 before each draw,
        the byte at (s div 2^33) mod (size of the alphabet)

and for "wordpiece", "o200k_base" and "cl100k_base" the pair [count, hash] of all ids: the
hash is FNV-1a of 64 bits, in hexadecimal, over the ids as four bytes each, lowest first.
WordPiece has [CLS] and [SEP] around and is not cut.  Bytes that are not UTF-8 are given
to the reference's WordPiece as U+FFFD; encodings_of_reference.py says what byte-pair encodings do.
"""

import argparse
import base64
import json
import pathlib
import random

import transformers

import encodings_of_reference as reference
import golden_texts

SEED = 20251121
OUT = pathlib.Path(__file__).resolve().parents[2] / "tests" / "data" / "golden" / "fuzz.jsonl"
MIB = 1 << 20


def fnv(ids):
    value = 0xCBF29CE484222325
    for number in ids:
        for byte in number.to_bytes(4, "little"):
            value = (value ^ byte) * 0x100000001B3 % (1 << 64)
    return [len(ids), f"{value:016x}"]


def draw(seed, size, alphabet):
    out = bytearray()
    for _ in range(size):
        seed = (seed * 6364136223846793005 + 1442695040888963407) % (1 << 64)
        out.append(alphabet[(seed >> 33) % len(alphabet)])
    return bytes(out)


def random_bytes(rng):
    return bytes(rng.randrange(256) for _ in range(rng.randint(1, 120)))


def broken(rng, texts):
    """UTF-8 that was cut, joined or hit by other bytes."""
    data = bytearray(rng.choice(texts).encode()[:rng.randint(4, 200)])
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1)
        what = rng.randrange(4)
        if what == 0:
            data[at:at + rng.randint(1, 3)] = b""
        elif what == 1:
            data[at:at] = rng.choice([b"\xff", b"\xc3", b"\xe4\xb8", b"\xf0\x9f\x98", b"\x80",
                                      b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80"])
        elif what == 2 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        else:
            other = rng.choice(texts).encode()
            data[at:at] = other[rng.randrange(len(other)):][:rng.randint(1, 20)]
        if not data:
            data += b"\xff"
    return bytes(data)


def mutated(rng, texts):
    """A text whose characters were doubled, moved, changed in case or replaced."""
    text = list(rng.choice(texts)[:rng.randint(4, 200)])
    for _ in range(rng.randint(1, 8)):
        at = rng.randrange(len(text))
        what = rng.randrange(5)
        if what == 0:
            text[at:at] = [text[at]] * rng.randint(1, 40)
        elif what == 1:
            text[at] = text[at].swapcase()
        elif what == 2:
            text[at] = chr(rng.choice([rng.randrange(0x80), rng.randrange(0x250),
                                       rng.randrange(0xD800), rng.randrange(0xE000, 0x30000)]))
        elif what == 3:
            text[at:at] = list(rng.choice(["'s", "'LL", "'\u017f", "  ", "\n\n", "\r\n \n", "/\n",
                                           "123456", "\u00a0", "<|endoftext|>", "[SEP]"]))
        else:
            other = rng.choice(texts)
            text[at:at] = list(other[:rng.randint(1, 20)])
    return "".join(text).encode()


def inputs():
    rng = random.Random(SEED)
    texts = [t for t in golden_texts.TEXTS if len(t) > 3]
    for make in (lambda: random_bytes(rng), lambda: broken(rng, texts),
                 lambda: mutated(rng, texts)):
        for _ in range(150):
            data = make()
            yield {"bytes": base64.b64encode(data).decode()}, data
    units = ["a", "A", " ", "\n", "-", "=", "1", "\t", " \n", "ab", "\u4e2d", "\u0301", "\U0001f600",
             "aB", "A\u4e2d", "\u00e9", "_a", "\u3042\u30a2", "  x", "'s", "lo", "hah", "\u0440\u0430"]
    for unit in [u.encode() for u in units] + [b"\xff", b"\xe4\xb8", b"\x80a"]:
        for times in (129, 1025, 5003):
            yield {"unit": base64.b64encode(unit).decode(), "times": times}, unit * times
    for unit in (b"a", b" ", b"-", "\u4e2d".encode()):
        times = MIB // len(unit) + 1
        yield {"unit": base64.b64encode(unit).decode(), "times": times}, unit * times
    letters = bytes(range(ord("a"), ord("z") + 1))
    for alphabet, size in ((letters, MIB + 1), (bytes(range(256)), MIB + 1), (b"ab", 20000),
                           (b"aAzZ", 20000), (b" \t", 20000), (b"ACGT", 20000), (b"01", 20000),
                           (b"-=_*", 20000), (b" \n", 20000), (bytes(range(0x80, 0x100)), 20000)):
        seed = rng.randrange(1 << 64)
        yield ({"seed": str(seed), "size": size, "alphabet": base64.b64encode(alphabet).decode()},
               draw(seed, size, alphabet))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", type=pathlib.Path)
    args = parser.parse_args()
    encodings = reference.load_all(args.models)
    wordpiece = transformers.AutoTokenizer.from_pretrained(args.models / "all-MiniLM-L6-v2")
    rows = as_bytes = not_text = 0
    with OUT.open("w", encoding="ascii", newline="\n") as out:
        for row, data in inputs():
            text = data.decode("utf-8", "replace")
            row["wordpiece"] = fnv(wordpiece(text, truncation=False, verbose=False)["input_ids"])
            for name, encoding in encodings.items():
                ids = reference.encode_bytes(encoding, data)
                row[name] = fnv(ids)
                assert encoding.decode_bytes(ids) == data
                try:
                    data.decode()
                except UnicodeDecodeError:
                    not_text += 1
                    as_bytes += ids == encoding._encode_bytes(data)
            out.write(json.dumps(row, separators=(",", ":")) + "\n")
            rows += 1
    print(f"{rows} inputs; of {not_text} encodings of bytes that are no text, {as_bytes} "
          "equal the reference's _encode_bytes")


if __name__ == "__main__":
    main()
