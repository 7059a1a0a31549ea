"""`memfuse embed`: lines in, the reference's vectors out, in both forms and at every end."""

import ast
import json
import os
import pty
import signal
import struct
import subprocess
import threading
import time

import numpy
import pytest
from harness import BINARY, MODEL_DIR, PATIENCE_S, SOURCE_DIR, clean_environment, run_cli

GOLDEN = SOURCE_DIR / "tests/data/golden"
DIM = 384


def golden_texts():
    """Texts that can stand on a line, and the reference's vectors of them."""
    with open(GOLDEN / "texts.jsonl", encoding="utf-8") as file:
        texts = [json.loads(line)["text"] for line in file]
    vectors = numpy.fromfile(GOLDEN / "vectors.f32", dtype="<f4").reshape(-1, DIM)
    fit = [i for i, text in enumerate(texts) if "\n" not in text and "\0" not in text]
    assert len(fit) > 200
    return [texts[i] for i in fit], vectors[fit]


def embed(*arguments, stdin="", model=MODEL_DIR, **options):
    """Runs the command with bytes on both sides."""
    line = [str(BINARY), "embed", "--model", str(model), *map(str, arguments)]
    return subprocess.run(
        line,
        input=stdin if isinstance(stdin, bytes) else stdin.encode(),
        capture_output=True,
        env=clean_environment(),
        timeout=PATIENCE_S,
        **options,
    )


def good(ran):
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def failure(ran, text, code=1):
    assert ran.returncode == code, ran
    assert ran.stderr.startswith(b"memfuse: ") and text.encode() in ran.stderr, ran


def rows(stdout):
    return numpy.array([json.loads(line) for line in stdout.splitlines()], dtype=numpy.float32)


def read_npy(content):
    """The header by hand, as its format is published, then the floats."""
    assert content[:8] == b"\x93NUMPY\x01\x00"
    (length,) = struct.unpack("<H", content[8:10])
    assert (10 + length) % 64 == 0 and content[9 + length : 10 + length] == b"\n"
    header = ast.literal_eval(content[10 : 10 + length].decode("ascii"))
    assert header["descr"] == "<f4" and header["fortran_order"] is False
    count, dim = header["shape"]
    body = content[10 + length :]
    assert len(body) == 4 * count * dim
    return numpy.frombuffer(body, dtype="<f4").reshape(count, dim)


# --- vectors -------------------------------------------------------------------------------------


def test_vectors_are_those_of_the_reference():
    texts, expected = golden_texts()
    found = rows(good(embed("--precision", "fp32", stdin="\n".join(texts))))
    assert found.shape == expected.shape
    assert numpy.sum(found.astype(float) * expected, axis=1).min() >= 0.9999


def test_int8_stays_near_the_reference():
    texts, expected = golden_texts()
    found = rows(good(embed("--precision", "int8", stdin="\n".join(texts))))
    cosines = numpy.sum(found.astype(float) * expected, axis=1)
    assert cosines.min() >= 0.99 and cosines.mean() >= 0.995


def test_json_and_numpy_hold_the_same_bits_on_any_number_of_threads(tmp_path):
    texts, _ = golden_texts()
    lines = "\n".join(texts)
    expected = read_npy(good(embed("--format", "npy", "--threads", "1", stdin=lines)))
    for threads in ("1", "2", "3"):
        found = rows(good(embed("--threads", threads, stdin=lines)))
        assert found.tobytes() == expected.tobytes()
    file = tmp_path / "vectors.npy"
    good(embed("--output", file, stdin=lines))
    assert numpy.load(file, allow_pickle=False).tobytes() == expected.tobytes()
    assert read_npy(file.read_bytes()).tobytes() == expected.tobytes()


def test_order_is_that_of_the_lines_whatever_repeats():
    lines = [["one", "two", "", "three"][i * 7 % 4] for i in range(5000)]
    found = rows(good(embed("--threads", "3", stdin="\n".join(lines) + "\n")))
    alone = dict(zip(["one", "two", "", "three"], rows(good(embed(stdin="one\ntwo\n\nthree\n"))), strict=True))
    assert len(found) == len(lines)
    for line, vector in zip(lines, found, strict=True):
        assert vector.tobytes() == alone[line].tobytes()


def test_ends_of_lines_and_of_the_input():
    assert good(embed(stdin="")) == b""
    assert read_npy(good(embed("-f", "npy", stdin=""))).shape == (0, DIM)
    assert len(rows(good(embed(stdin="a")))) == 1
    assert len(rows(good(embed(stdin="a\n")))) == 1
    assert len(rows(good(embed(stdin="\n")))) == 1
    assert len(rows(good(embed(stdin="a\n\n")))) == 2
    crlf, lf = good(embed(stdin="a b\r\nc\r\n")), good(embed(stdin="a b\nc\n"))
    assert crlf == lf


def test_vectors_can_be_shortened(tmp_path):
    whole = rows(good(embed(stdin="a red fox\n")))[0].astype(float)
    cut = rows(good(embed("--dimensions", "64", stdin="a red fox\n")))[0]
    expected = whole[:64] / numpy.linalg.norm(whole[:64])
    assert cut.shape == (64,) and numpy.abs(cut - expected).max() < 1e-6
    by_setting = run_cli(
        "embed", stdin="a red fox\n", settings=[f"model.dir={MODEL_DIR}", "model.dimensions=64"]
    )
    assert rows(good(by_setting)).tobytes() == cut.tobytes()
    failure(embed("--dimensions", "385", stdin="a"), "385", code=2)


# --- input and output ----------------------------------------------------------------------------


def test_input_and_output_files(tmp_path):
    (tmp_path / "in.txt").write_text("one\ntwo\n")
    expected = good(embed(stdin="one\ntwo\n"))
    assert good(embed("--input", tmp_path / "in.txt")) == expected
    assert good(embed("--input", "-", "--output", "-", stdin="one\ntwo\n")) == expected
    out = tmp_path / "out.jsonl"
    out.write_text("old")
    assert b"2 vectors of 384 numbers" in good(embed("-i", tmp_path / "in.txt", "-o", out))
    assert out.read_bytes() == expected
    told = json.loads(good(embed("--json", "-i", tmp_path / "in.txt", "-o", out)))
    assert told == {"texts": 2, "dim": DIM, "encoded": 2, "truncated": 0}
    link = tmp_path / "link.jsonl"
    link.symlink_to(out)
    assert good(embed("-q", "-o", link, stdin="one\n")) == b""
    assert link.is_symlink() and out.read_bytes() == expected.splitlines(True)[0]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.txt", "link.jsonl", "out.jsonl"]


def test_output_that_is_no_file_is_written_in_place(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    got = []
    reader = threading.Thread(target=lambda: got.append(fifo.read_bytes()))
    reader.start()
    good(embed("-f", "npy", "-o", fifo, stdin="one\n"))
    reader.join(PATIENCE_S)
    assert read_npy(got[0]).shape == (1, DIM) and fifo.is_fifo()
    good(embed("-o", "/dev/null", stdin="one\n"))
    failure(embed("-o", tmp_path, stdin="one\n"), "directory")
    failure(embed("-o", tmp_path / "none/out", stdin="one\n"), "none/out")
    failure(embed("-o", "/dev/full", stdin="one\n"), "No space left")


def test_a_line_is_answered_while_the_input_stays_open():
    command = [str(BINARY), "embed", "--model", str(MODEL_DIR)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=clean_environment()
    ) as process:
        for text in ("first", "second"):
            process.stdin.write(text.encode() + b"\n")
            process.stdin.flush()
            assert len(json.loads(process.stdout.readline())) == DIM
        process.stdin.close()
        assert process.stdout.read() == b"" and process.wait(PATIENCE_S) == 0


def test_memory_does_not_grow_with_the_input():
    """Fifty thousand lines of 99 bytes, of which a hundred are different."""
    command = [str(BINARY), "embed", "--model", str(MODEL_DIR)]
    lines = b"".join(b"%-98d\n" % (i % 100) for i in range(5000)) * 10
    environment = clean_environment()
    # The address sanitizer keeps what was freed, to see whether it is used again.
    options = environment.get("ASAN_OPTIONS", "")
    environment["ASAN_OPTIONS"] = f"{options}:quarantine_size_mb=0:thread_local_quarantine_size_kb=0"
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:

        def feed():
            process.stdin.write(lines)
            process.stdin.close()

        feeder = threading.Thread(target=feed)
        feeder.start()
        peaks = []
        count = 0
        for _ in process.stdout:
            count += 1
            if count in (5000, 45000):
                with open(f"/proc/{process.pid}/status", encoding="ascii") as status:
                    peaks += [int(line.split()[1]) for line in status if line.startswith("VmHWM")]
        feeder.join(PATIENCE_S)
        assert process.wait(PATIENCE_S) == 0 and count == 50000
    assert peaks[1] - peaks[0] < 4096, "kB"


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line, reason",
    [
        (b"ab\xff", "byte 3 is not UTF-8"),
        (b"\xed\xa0\x80", "byte 1 is not UTF-8"),
        (b"a\0b", "NUL"),
        (b"x" * ((1 << 20) + 1), "1048576"),
        (b"x" * (9 << 20), "1048576"),
    ],
)
def test_a_bad_line_is_named_and_those_before_it_count(tmp_path, line, reason):
    ran = embed(stdin=b"one\ntwo\n" + line + b"\nthree\n")
    failure(ran, f"stdin:3: ")
    assert reason in ran.stderr.decode() and len(rows(ran.stdout)) == 2
    file = tmp_path / "texts"
    file.write_bytes(line)
    failure(embed("-i", file, "-o", tmp_path / "out.npy"), f"{file}:1: ")
    assert [p.name for p in tmp_path.iterdir()] == ["texts"]


def test_the_longest_line_is_taken_and_its_end_is_told():
    ran = embed(stdin=b"word " * ((1 << 20) // 5))
    assert len(rows(good(ran))) == 1
    assert b"1 of 1 texts are longer than the model's window of 256 tokens" in ran.stderr
    assert embed("--quiet", stdin="word " * 300).stderr == b""


def test_wrong_uses_are_exit_code_2(tmp_path):
    for arguments in (
        ["--format", "xml"],
        ["--threads", "many"],
        ["--threads", "-1"],
        ["--threads", "64"],
        ["--threads", ""],
        ["--precision", "int3"],
        ["--dimensions", "x"],
        ["a text"],
        ["--nonsense"],
    ):
        ran = embed(*arguments, cwd=tmp_path)
        assert ran.returncode == 2 and ran.stdout == b"" and ran.stderr.startswith(b"memfuse: "), ran
    assert list(tmp_path.iterdir()) == []


def test_failures_name_what_is_missing(tmp_path):
    failure(embed("-i", tmp_path / "none.txt"), "none.txt")
    failure(embed(model=tmp_path / "nothing", stdin="a"), "nothing")
    failure(run_embed_by_name(tmp_path, "nothing"), "nothing")


def run_embed_by_name(data, *name):
    command = [str(BINARY), "embed", "--data", str(data), *(["--model", *name] if name else [])]
    return subprocess.run(command, input=b"a\n", capture_output=True, env=clean_environment(), timeout=PATIENCE_S)


def test_a_model_is_found_by_name_and_by_the_settings(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "all-MiniLM-L6-v2").symlink_to(MODEL_DIR)
    expected = good(embed(stdin="a\n"))
    assert good(run_embed_by_name(tmp_path)) == expected
    assert good(run_embed_by_name(tmp_path, "all-MiniLM-L6-v2")) == expected
    text = run_cli("embed", stdin="a\n", settings=[f"model.dir={MODEL_DIR}", "model.precision=fp32"])
    assert text.returncode == 0 and text.stdout.encode() != expected
    assert text.stdout.encode() == good(embed("-p", "fp32", stdin="a\n"))


# --- signals and terminals -----------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_leaves_no_file(tmp_path, number):
    out = tmp_path / "out.npy"
    command = [str(BINARY), "embed", "--model", str(MODEL_DIR), "--output", str(out)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=clean_environment()
    ) as process:
        process.stdin.write(b"one\n")
        process.stdin.flush()
        deadline = time.monotonic() + PATIENCE_S
        while not list(tmp_path.iterdir()):  # the file beside the output appears
            assert time.monotonic() < deadline
        process.send_signal(number)
        assert process.wait(PATIENCE_S) == -number
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_leaves_ends_it():
    command = [str(BINARY), "embed", "--model", str(MODEL_DIR)]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=clean_environment(),
    ) as process:
        process.stdin.write(b"one\n")
        process.stdin.flush()
        process.stdout.readline()
        process.stdout.close()
        process.stdin.write(b"two\n")
        process.stdin.flush()
        assert process.wait(PATIENCE_S) == -signal.SIGPIPE
        assert process.stderr.read() == b""


def run_on_a_terminal(*arguments):
    """Runs the command with stderr on a terminal; returns exit code and what the terminal got."""
    master, slave = pty.openpty()
    command = [str(BINARY), "embed", "--model", str(MODEL_DIR), *map(str, arguments)]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=slave, env=clean_environment()
    ) as process:
        os.close(slave)
        process.stdout.read()
        code = process.wait(PATIENCE_S)
    shown = b""
    try:
        while piece := os.read(master, 65536):
            shown += piece
    except OSError:  # how a terminal says that nobody holds its other end
        pass
    os.close(master)
    return code, shown.decode()


def test_a_terminal_is_shown_how_far_it_is(tmp_path):
    file = tmp_path / "texts"
    file.write_text("".join(f"the number {i} of many lines that take a while together\n" for i in range(3000)))
    code, shown = run_on_a_terminal("-i", file)
    assert code == 0 and "embedding [" in shown and " %" in shown and "texts/s" in shown and "s left" in shown
    assert shown.endswith("\r\x1b[K"), "the line is taken away"
    assert run_on_a_terminal("-q", "-i", file) == (0, "")


def test_numpy_bytes_are_not_for_a_terminal():
    master, slave = pty.openpty()
    command = [str(BINARY), "embed", "--model", str(MODEL_DIR), "--format", "npy"]
    ran = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=slave,
        stderr=subprocess.PIPE,
        env=clean_environment(),
        timeout=PATIENCE_S,
        check=False,
    )
    os.close(slave)
    os.close(master)
    failure(ran, "--output", code=2)
