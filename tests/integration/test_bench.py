"""`memfuse bench encoder`: its figures are all there and none is out of this world.

How fast the machine is stays out of the tests; one short repeat is enough to see shapes.
"""

import json
from pathlib import Path

import pytest
from harness import MODEL_DIR, run_cli

TINY_MODEL = Path(__file__).resolve().parents[1] / "data/golden/models/distilbert-mean"
SHORT = ("--repeats", "1", "--seconds", "0.01", "--model", MODEL_DIR)
TINY = ("--repeats", "1", "--seconds", "0.01", "--model", TINY_MODEL)
KEYS = [
    "precision",
    "tokens_per_s",
    "texts_per_s",
    "gflops",
    "peak_gflops",
    "peak_fraction",
    "cosine_min",
    "query_p50_us",
]


def bench(*arguments, **options):
    return run_cli("bench", "encoder", *arguments, **options)


def results(*arguments, common=SHORT):
    ran = bench("--json", *common, *arguments)
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == "", "progress is for terminals"
    return [json.loads(line) for line in ran.stdout.splitlines()]


def test_the_figures_are_told_as_json():
    (result,) = results()
    assert list(result)[: len(KEYS)] == KEYS
    for key in ("tokens_per_s", "texts_per_s", "gflops", "query_p50_us", "query_cold_p50_us", "open_ms", "rss_mb"):
        assert result[key] > 0, key
    assert result["model"] == "all-MiniLM-L6-v2"
    assert result["query_tokens"] == 10
    assert 30 < result["tokens_per_text"] < 45
    assert result["precision"] in ("int8", "bf16", "fp32")
    # A repeat of the batch has texts and tokens over the same time; only which texts differs.
    ratio = result["tokens_per_s"] / result["texts_per_s"]
    assert 0.5 * result["tokens_per_text"] < ratio < 2 * result["tokens_per_text"]
    for low, high in result["spread"].values():
        assert 0 < low <= high


def test_all_precisions_are_measured_and_agree_with_fp32(tmp_path):
    file = tmp_path / "texts"  # few, because sanitizers make every precision slow
    file.write_text("\n".join(f"Message {i}: {'we talked about the harbour ' * i}" for i in range(1, 9)))
    told = {result["precision"]: result for result in results("--precision", "all", "--texts", file)}
    assert {"int8", "bf16", "fp32"} <= set(told)
    assert told["fp32"]["cosine_min"] > 0.9999
    assert told["bf16"]["cosine_min"] > 0.999
    assert told["int8"]["cosine_min"] > 0.98
    assert len({result["kernel"] for result in told.values()}) == 1


def test_all_kernels_of_the_machine_are_measured():
    kernels = [result["kernel"] for result in results("--precision", "fp32", "--kernel", "all", common=TINY)]
    assert kernels and len(set(kernels)) == len(kernels)


def test_texts_come_from_a_file(tmp_path):
    file = tmp_path / "texts"
    file.write_text("a bird in the hand\n\nmorgen früh um sechs\nlast line without an end")
    (result,) = results("--texts", file, "--precision", "fp32", common=TINY)
    assert result["texts"] == 3


def test_people_get_a_table():
    ran = bench(*TINY, "--precision", "fp32")
    assert ran.returncode == 0, ran.stderr
    assert "distilbert-mean, fp32, " in ran.stdout
    for word in ("tokens", "question", "cosine to fp32"):
        assert word in ran.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["decoder"],
        ["encoder", "twice"],
        ["encoder", "--repeats", "0"],
        ["encoder", "--repeats", "100"],
        ["encoder", "--repeats", "many"],
        ["encoder", "--seconds", "-1"],
        ["encoder", "--seconds", "nan"],
        ["encoder", "--seconds", "1s"],
    ],
)
def test_a_wrong_command_line_is_exit_code_2(arguments):
    ran = run_cli("bench", *arguments)
    assert ran.returncode == 2 and ran.stdout == "" and ran.stderr.startswith("memfuse: "), ran


@pytest.mark.parametrize(
    "arguments, reason",
    [
        (["--model", "/nowhere/at/all"], "/nowhere/at/all"),
        (["--model", "nobody"], "models/nobody"),
        ([*SHORT, "--precision", "int3"], "int3"),
        ([*SHORT, "--kernel", "abacus"], "abacus"),
        ([*SHORT, "--texts", "/nowhere/texts"], "/nowhere/texts"),
    ],
)
def test_what_cannot_be_measured_is_told(tmp_path, arguments, reason):
    ran = bench(*arguments, data=tmp_path / "data")
    assert ran.returncode == 1 and ran.stdout == "" and reason in ran.stderr, ran


@pytest.mark.parametrize("content", [b"", b"\n\n", b"one\0two\n", b"\xff\xfe\n"])
def test_a_file_without_good_texts_is_refused(tmp_path, content):
    file = tmp_path / "texts"
    file.write_bytes(content)
    ran = bench(*SHORT, "--texts", file)
    assert ran.returncode == 1 and ran.stdout == "", ran
    assert ran.stderr.startswith("memfuse: ")
