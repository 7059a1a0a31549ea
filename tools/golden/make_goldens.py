#!/usr/bin/env python3
"""Writes tests/data/golden: what the reference implementations make of many texts.

Regenerate (only when texts are added; the fixture is checked in):

    python3 -m venv /tmp/golden
    /tmp/golden/bin/pip install sentence-transformers==6.2.0 transformers==5.23.0 \
        tokenizers==0.23.3 tiktoken==0.14.0 regex==2026.11.15 torch==2.15.0 numpy
    /tmp/golden/bin/python tools/golden/make_goldens.py DATA/models

DATA/models is the folder in which tools/setup.sh puts all-MiniLM-L6-v2,
o200k_base.tiktoken and cl100k_base.tiktoken.  make_fuzz.py beside it writes the fuzzed
inputs.

What is compared against it, and how strictly:
    WordPiece ids   equal, after truncation to 256 as sentence-transformers does it
    o200k_base and cl100k_base ids  equal; special-token strings are ordinary text
    vectors         cosine >= 0.9999 for fp32 (each row has norm 1)

Vectors are computed on the CPU in fp32, one text at a time, so that no padding takes
part.  Another torch release moves them by about 1e-7; the ids do not move.
"""

import argparse
import hashlib
import json
import pathlib
import platform
import random
import unicodedata

import numpy
import sentence_transformers
import tiktoken
import tokenizers
import torch
import transformers

import encodings_of_reference as reference
import golden_texts

COSINE_MIN = 0.9999
TOKEN_TEXT_COUNT = 2000
SEED = 20251120
OUT = pathlib.Path(__file__).resolve().parents[2] / "tests" / "data" / "golden"

def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def assigned(first, last):
    """The code points of a range that stand for a character."""
    return [c for c in range(first, last + 1)
            if unicodedata.category(chr(c)) not in ("Cn", "Cs", "Co")]


def random_texts(count):
    """Short texts that mix scripts, words, blanks and marks; the same at every run."""
    rng = random.Random(SEED)
    words = sorted({w for t in golden_texts.TEXTS for w in t.split() if len(w) < 16})
    pools = [assigned(*r) for r in (
        (0x20, 0x7e), (0xa0, 0x24f), (0x250, 0x36f), (0x370, 0x52f), (0x530, 0x6ff),
        (0x900, 0xdff), (0xe00, 0x109f), (0x10a0, 0x13ff), (0x1400, 0x1fff),
        (0x2000, 0x2bff), (0x2c00, 0x2fff), (0x3000, 0x33ff), (0x4e00, 0x9fff),
        (0xa000, 0xabff), (0xac00, 0xd7a3), (0xf900, 0xffef), (0x10000, 0x11fff),
        (0x16000, 0x1bfff), (0x1d000, 0x1fbff), (0x20000, 0x20fff), (0x0, 0x2ffff))]
    blanks = [" ", " ", " ", "  ", "\n", "\r\n", "\t", "\n\n", "   ", " \n ", "\u00a0",
              "\u3000", ""]
    tails = ["'s", "'LL", "'re", ".", ",", "!", "?!", "...", "/", "//\n", ")", "", "", ""]

    def letters():
        pool = rng.choice(pools)
        return "".join(chr(rng.choice(pool)) for _ in range(rng.randint(1, 6)))

    def word():
        text = rng.choice(words)
        return rng.choice([text, text, text.upper(), text.title(), text.swapcase()])

    def digits():
        return str(rng.randrange(10 ** rng.randint(1, 9)))

    def ascii_run():
        return "".join(chr(rng.randint(0x20, 0x7e)) for _ in range(rng.randint(1, 10)))

    texts = []
    seen = set(golden_texts.TEXTS)
    while len(texts) < count:
        parts = []
        for _ in range(rng.randint(1, 5)):
            parts.append(rng.choice([letters, letters, word, word, digits, ascii_run])())
            parts.append(rng.choice(tails))
            parts.append(rng.choice(blanks))
        text = "".join(parts)
        if text not in seen:
            seen.add(text)
            texts.append(text)
    return texts


def wordpiece_ids(model, text):
    return model.preprocess([text])["input_ids"][0].tolist()


def write_lines(path, texts, model, encodings):
    with path.open("w", encoding="ascii", newline="\n") as out:
        for text in texts:
            row = {"text": text, "wordpiece": wordpiece_ids(model, text)}
            for name, encoding in encodings.items():
                row[name] = encoding.encode_ordinary(text)
            out.write(json.dumps(row, separators=(",", ":")) + "\n")


def write_vectors(path, texts, model):
    rows = [model.encode([t], batch_size=1, convert_to_numpy=True)[0] for t in texts]
    matrix = numpy.stack(rows).astype("<f4")
    norms = numpy.linalg.norm(matrix.astype("f8"), axis=1)
    assert matrix.shape == (len(texts), 384) and numpy.abs(norms - 1).max() < 1e-5
    path.write_bytes(matrix.tobytes())


README = """# Golden data

What the reference implementations make of {count} texts written for this purpose, and
of {token_count} short texts drawn at random (seed {seed}). Written by
`tools/golden/make_goldens.py`, which says how to run it; do not edit by hand.

| File | Content |
|---|---|
| `texts.jsonl` | {count} lines `{{"text", "wordpiece", "o200k_base", "cl100k_base"}}`: ids as sentence-transformers feeds them to the model (`[CLS]` first, `[SEP]` last, at most 256), and ids of byte-pair encodings with special-token strings taken as ordinary text |
| `vectors.f32` | {count} x 384 little-endian float32, row n for line n of `texts.jsonl`, norm 1 |
| `tokens.jsonl` | {token_count} lines in the form of `texts.jsonl`, without vectors |
| `fuzz.jsonl` | fuzzed inputs, of random bytes, broken UTF-8, mutated texts and long runs up to 1 MiB, with the count and a hash of their ids for each tokenizer; `tools/golden/make_fuzz.py` writes it and explains its three forms of input and the hash |

**Bytes that are not UTF-8.** The reference tokenizers take text. WordPiece is given
U+FFFD for each bad sequence, which it drops. tiktoken's own way to take bytes
(`_encode_bytes`) encodes everything from the last piece before the first bad byte to the
end as one piece; memfuse goes on cutting, with a bad byte as a symbol. The ids here are
the reference's for pieces cut so (`tools/golden/encodings_of_reference.py`); for about
three in four of these inputs `_encode_bytes` gives the same. For 1 MiB without a break
the reference's pattern matcher runs out of stack, and the pieces come from Python's.

**Tolerance.** Ids are equal. Vectors computed in fp32 have a cosine of at least
{cosine} to the row here.

**Made with** {versions}.

**Inputs** (SHA-256):

| File | Hash |
|---|---|
{hashes}
"""


def write_readme(model_dir):
    versions = ", ".join(
        f"{name} {version}" for name, version in (
            ("Python", platform.python_version()), ("torch", torch.__version__),
            ("sentence-transformers", sentence_transformers.__version__),
            ("transformers", transformers.__version__),
            ("tokenizers", tokenizers.__version__), ("tiktoken", tiktoken.__version__)))
    inputs = [model_dir / n for n in
              ("model.safetensors", "config.json", "tokenizer.json", "vocab.txt")]
    inputs += [model_dir.parent / f"{name}.tiktoken" for name in reference.PATTERNS]
    hashes = "\n".join(f"| {p.name} | `{sha256(p)}` |" for p in inputs)
    (OUT / "README.md").write_text(README.format(
        count=len(golden_texts.TEXTS), token_count=TOKEN_TEXT_COUNT, seed=SEED,
        cosine=COSINE_MIN, versions=versions, hashes=hashes), encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", type=pathlib.Path)
    args = parser.parse_args()
    assert len(set(golden_texts.TEXTS)) == len(golden_texts.TEXTS)

    model_dir = args.models / "all-MiniLM-L6-v2"
    model = sentence_transformers.SentenceTransformer(str(model_dir), device="cpu")
    model.eval()
    encodings = reference.load_all(args.models)
    OUT.mkdir(parents=True, exist_ok=True)
    write_lines(OUT / "texts.jsonl", golden_texts.TEXTS, model, encodings)
    write_vectors(OUT / "vectors.f32", golden_texts.TEXTS, model)
    write_lines(OUT / "tokens.jsonl", random_texts(TOKEN_TEXT_COUNT), model, encodings)
    write_readme(model_dir)


if __name__ == "__main__":
    main()
