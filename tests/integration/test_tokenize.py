"""`memfuse tokenize`: the ids of the reference tokenizers, in every form of output."""

import base64
import json
import os
import subprocess
from pathlib import Path

import pytest
from harness import BINARY, MODEL_DIR, PATIENCE_S, RANKS_FILE, SOURCE_DIR, clean_environment, needed, run_cli

CL100K_FILE = needed("MEMFUSE_CL100K_FILE")
GOLDEN = SOURCE_DIR / "tests" / "data" / "golden"
WINDOW = 256
# The member of the golden data, and the options that choose the tokenizer.
TOKENIZERS = {
    "o200k_base": ["--ranks", RANKS_FILE],
    "cl100k_base": ["--encoding", "cl100k_base", "--ranks", CL100K_FILE],
    "wordpiece": ["--model", MODEL_DIR],
}


def golden(name):
    return [json.loads(line) for line in (GOLDEN / name).read_text().splitlines()]


def tokenize(*arguments, data=b"", code=0):
    """Standard output as bytes; what is read and written need not be text."""
    ran = subprocess.run(
        [BINARY, "tokenize", *map(str, arguments)],
        input=data,
        capture_output=True,
        env=clean_environment(),
        timeout=PATIENCE_S,
    )
    assert ran.returncode == code, ran.stderr
    return ran.stdout


def numbers(line):
    return [int(word) for word in line.split()]


def fnv(ids):
    value = 0xCBF29CE484222325
    for number in ids:
        for byte in number.to_bytes(4, "little"):
            value = (value ^ byte) * 0x100000001B3 % (1 << 64)
    return f"{value:016x}"


@pytest.fixture(params=TOKENIZERS)
def name(request):
    return request.param


# --- the goldens -------------------------------------------------------------------------


def test_lines_have_the_ids_of_the_reference(name):
    rows = [r for r in golden("texts.jsonl") + golden("tokens.jsonl") if "\n" not in r["text"]]
    assert len(rows) > 800
    lines = "".join(row["text"] + "\n" for row in rows).encode()
    ids = [numbers(line) for line in tokenize(*TOKENIZERS[name], "--lines", "--ids", data=lines).split(b"\n")[:-1]]
    assert len(ids) == len(rows)
    for row, got in zip(rows, ids, strict=True):
        if name == "wordpiece" and len(got) > WINDOW:  # the golden data is cut to the model's window
            got = got[: WINDOW - 1] + got[-1:]
        assert got == row[name], row["text"]
    counts = tokenize(*TOKENIZERS[name], "--lines", data=lines)
    assert numbers(counts) == [len(i) for i in ids]


def test_whole_texts_have_the_ids_of_the_reference(name):
    rows = [r for r in golden("texts.jsonl") if "\n" in r["text"] and len(r[name]) < WINDOW]
    assert len(rows) > 15
    for row in rows:
        out = tokenize(*TOKENIZERS[name], "-i", data=row["text"].encode())
        assert numbers(out) == row[name], row["text"]


def test_fuzzed_bytes_have_the_ids_of_the_reference(name):
    rows = [r for r in golden("fuzz.jsonl") if "bytes" in r][::9]
    rows += [r for r in golden("fuzz.jsonl") if r.get("times", 0) > 1 << 18]
    assert len(rows) > 50
    for row in rows:
        data = base64.b64decode(row["bytes"]) if "bytes" in row else base64.b64decode(row["unit"]) * row["times"]
        ids = numbers(tokenize(*TOKENIZERS[name], "--ids", data=data))
        assert [len(ids), fnv(ids)] == row[name], row


def test_tokens_of_a_byte_pair_encoding_are_the_bytes():
    row = next(r for r in golden("fuzz.jsonl") if "bytes" in r)
    data = base64.b64decode(row["bytes"])
    reply = json.loads(tokenize("--json", "--tokens", *TOKENIZERS["o200k_base"], data=data))
    assert b"".join(t.encode() if isinstance(t, str) else bytes(t) for t in reply["tokens"]) == data
    assert reply["count"] == len(reply["tokens"]) == row["o200k_base"][0]


# --- forms of input and output -------------------------------------------------------------


def run(*arguments, stdin=None, data=None):
    ran = run_cli("tokenize", *arguments, stdin=stdin, data=data)
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    return ran.stdout


def test_operands_are_one_text():
    assert run(*TOKENIZERS["o200k_base"], "hello", "world") == "2\n"
    assert run(*TOKENIZERS["o200k_base"], "-n", "hello world") == "2\n"
    assert run(*TOKENIZERS["o200k_base"], "--", "--hello") == run(*TOKENIZERS["o200k_base"], stdin="--hello")
    assert run(*TOKENIZERS["o200k_base"], "") == "0\n"


def test_standard_input_is_one_text_or_a_text_per_line():
    text = "hello world\n\nlast line"
    o200k = TOKENIZERS["o200k_base"]
    assert run(*o200k, "--lines", stdin=text) == "2\n0\n2\n"
    assert numbers(run(*o200k, "--ids", stdin=text)) != []
    assert run(*o200k, "-l", "-i", stdin=text).splitlines()[1] == ""
    assert run(*o200k, stdin="") == "0\n"
    assert run(*o200k, "--lines", stdin="") == ""
    assert run(*TOKENIZERS["wordpiece"], stdin="") == "2\n", "[CLS] and [SEP]"


def test_tokens_are_quoted():
    assert run(*TOKENIZERS["o200k_base"], "-t", 'say "hi"\n\t\\') == '"say" " \\"" "hi" "\\"\\n" "\\t" "\\\\"\n'
    assert run(*TOKENIZERS["o200k_base"], "-t", "🦋") == '"\\xF0\\x9F" "\\xA6" "\\x8B"\n'
    assert run(*TOKENIZERS["wordpiece"], "-t", "unaffable 中") == '"[CLS]" "una" "##ffa" "##ble" "中" "[SEP]"\n'


def test_json_has_what_is_asked_for():
    o200k = TOKENIZERS["o200k_base"]
    assert json.loads(run("--json", *o200k, "hello world")) == {"count": 2}
    reply = json.loads(run("--json", "-i", "-t", *o200k, "hello\x01 world"))
    assert reply["count"] == len(reply["ids"]) == len(reply["tokens"])
    assert "".join(reply["tokens"]) == "hello\x01 world"
    lines = run("--json", "--lines", "--tokens", *o200k, stdin="a\nb c\n").splitlines()
    assert [json.loads(line)["tokens"] for line in lines] == [["a"], ["b", " c"]]


def test_files_are_found_as_models_are(tmp_path):
    models = tmp_path / "models"
    models.mkdir()
    for file in (RANKS_FILE, CL100K_FILE, MODEL_DIR):
        (models / Path(file).name).symlink_to(Path(file).resolve())
    assert run("hello world", data=tmp_path) == "2\n"
    assert run("-e", "cl100k_base", "hello world", data=tmp_path) == "2\n"
    assert run("-m", Path(MODEL_DIR).name, "hello world", data=tmp_path) == "4\n"
    assert sorted(os.listdir(tmp_path)) == ["models"], "no data is opened"
    assert run("--set", f"model.ranks_file={RANKS_FILE}", "hello world", data=tmp_path / "nowhere") == "2\n"


# --- refusals ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--encoding", "r50k_base", "x"], "o200k_base or cl100k_base"),
        (["--ids", "--tokens", "x"], "--json"),
        (["--count", "--ids", "x"], "--json"),
        (["--lines", "x"], "--lines"),
        (["--model", "m", "--encoding", "o200k_base", "x"], "--model"),
        (["--model", "m", "--ranks", "r", "x"], "--model"),
        (["--encoding"], "--encoding"),
        (["--nonsense"], "--nonsense"),
    ],
)
def test_a_wrong_command_line_is_told(arguments, words):
    ran = run_cli("tokenize", *arguments)
    assert ran.returncode == 2 and ran.stdout == "", ran
    assert ran.stderr.startswith("memfuse: ") and words in ran.stderr


def test_missing_and_damaged_files_are_named(tmp_path):
    ran = run_cli("tokenize", "x", data=tmp_path)
    assert ran.returncode == 1 and "o200k_base.tiktoken" in ran.stderr and "setup.sh" in ran.stderr
    ran = run_cli("tokenize", "-m", "absent", "x", data=tmp_path)
    assert ran.returncode == 1 and "absent" in ran.stderr
    ranks = tmp_path / "ranks"
    ranks.write_text("AA== 0\nAQ== 0\n")
    ran = run_cli("tokenize", "--ranks", ranks, "x")
    assert ran.returncode == 1 and ran.stdout == ""
    assert f"{ranks}' line 2: ranks do not rise" in ran.stderr


def test_a_full_disk_is_told():
    with open("/dev/full", "w") as full:
        ran = subprocess.run(
            [BINARY, "tokenize", "--ranks", RANKS_FILE, "x"],
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=clean_environment(),
            timeout=PATIENCE_S,
        )
    assert ran.returncode == 1 and "standard output" in ran.stderr
