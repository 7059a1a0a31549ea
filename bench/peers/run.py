"""Runs the comparison: every runtime in turn, round after round, on one core.

What slows the machine down hits all of a round alike, so ratios are formed within rounds
and told with the lowest and the highest of them.  See README.md.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import graph
import numpy as np
import texts as built_in
import worker

HERE = Path(__file__).resolve().parent
QUERIES = 30  # in a round


@dataclass
class Runtime:
    """A worker process and what it measured."""

    name: str
    process: subprocess.Popen
    ways: list[str] = field(default_factory=list)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    query_us: list[float] = field(default_factory=list)
    vectors: np.ndarray | None = None
    tiles: bool = False

    def call(self, request: dict | None) -> dict:
        if request is not None:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.name}: the worker ended; its messages are above")
        return json.loads(line)

    def round(self, way: str) -> None:
        self.seconds.setdefault(way, []).append(self.call({"way": way})["seconds"])

    def best_way(self) -> str:
        return min(self.ways, key=lambda way: statistics.median(self.seconds[way]))


def start(name: str, core: int, arguments: list[object]) -> Runtime:
    one = {key: "1" for key in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    quiet = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    process = subprocess.Popen(
        ["taskset", "--cpu-list", str(core), sys.executable, str(HERE / "worker.py"), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | one | quiet,
    )
    return Runtime(name, process)


def start_all(options: argparse.Namespace, texts_file: Path) -> list[Runtime]:
    common = ["--model", options.model, "--texts", texts_file]
    if options.without_tiles:
        common.append("--without-tiles")
    graphs = graph.write_graphs(options.model, options.build / "graphs")
    commands: dict[str, list[object]] = {
        f"memfuse {precision}": ["memfuse", "--library", options.library, "--precision", precision]
        for precision in options.precisions.split(",")
    }
    for precision, path in graphs.items():
        commands[f"ONNX Runtime {precision}"] = ["onnxruntime", "--graph", path]
    commands["sentence-transformers fp32"] = ["sentence-transformers", "--precision", "float32"]
    commands["sentence-transformers bf16"] = ["sentence-transformers", "--precision", "bfloat16"]
    runtimes = [start(name, options.core, [*command, *common]) for name, command in commands.items()]
    for runtime in runtimes:
        runtime.ways = runtime.call(None)["ways"]
    return runtimes


def say(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{text:<60}", end="", file=sys.stderr, flush=True)


def measure(runtimes: list[Runtime], rounds: int, folder: Path) -> None:
    for number, runtime in enumerate(runtimes):
        file = folder / f"{number}.npy"
        runtime.tiles = runtime.call({"save": str(file)})["tiles"]
        runtime.vectors = np.load(file)
    for number in range(rounds):
        for runtime in runtimes:
            say(f"round {number + 1} of {rounds}: {runtime.name}")
            for way in runtime.ways:
                runtime.round(way)
            runtime.query_us.append(statistics.median(runtime.call({"query": QUERIES})["query_us"]))
    say("")


def spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def cosines(vectors: np.ndarray, exact: np.ndarray) -> dict[str, float]:
    norms = np.linalg.norm(vectors, axis=1) * np.linalg.norm(exact, axis=1)
    each = (vectors.astype(np.float64) * exact).sum(axis=1) / norms
    return {"min": float(each.min()), "mean": float(each.mean())}


def ratio(slow: list[float], fast: list[float]) -> dict[str, float]:
    return spread([a / b for a, b in zip(slow, fast, strict=True)])


def report(runtimes: list[Runtime], texts: int, tokens: int) -> dict:
    by_name = {runtime.name: runtime for runtime in runtimes}
    ours = [runtime for runtime in runtimes if runtime.name.startswith("memfuse ")]
    exact = by_name["memfuse fp32"].vectors
    rows = []
    for runtime in runtimes:
        for way in runtime.ways:
            rates = [tokens / s for s in runtime.seconds[way]]
            row = {
                "runtime": runtime.name,
                "way": way,
                "best": way == runtime.best_way(),
                "tokens_per_s": spread(rates),
                "texts_per_s": spread([rate * texts / tokens for rate in rates]),
            }
            rows.append(row)
    ratios = {}
    for own in ours:
        fast = own.seconds[own.ways[0]]
        against = {}
        for peer in runtimes:
            if peer not in ours:
                against[f"{peer.name}, at its best"] = ratio(peer.seconds[peer.best_way()], fast)
                against[f"{peer.name}, question"] = ratio(peer.query_us, own.query_us)
        padded = by_name["ONNX Runtime fp32"].seconds[f"padded, {worker.PADDED[-1]} at once"]
        against["ONNX Runtime fp32, padded"] = ratio(padded, fast)
        ratios[own.name] = against
    return {
        "texts": texts,
        "tokens": tokens,
        "rows": rows,
        "query_p50_us": {runtime.name: spread(runtime.query_us) for runtime in runtimes},
        "cosine_to_memfuse_fp32": {runtime.name: cosines(runtime.vectors, exact) for runtime in runtimes},
        "tiles": {runtime.name: runtime.tiles for runtime in runtimes},
        "ratios": ratios,
    }


def show(result: dict) -> None:
    print(f"{result['texts']} texts, {result['tokens']} tokens; processor time of one core; median [low..high]")
    print(f"{'':<28}{'':<20}{'tokens/s':>28}{'texts/s':>10}")
    for row in result["rows"]:
        rate = row["tokens_per_s"]
        told = f"{rate['median']:.0f} [{rate['low']:.0f}..{rate['high']:.0f}]"
        mark = "  best" if row["best"] else ""
        print(f"{row['runtime']:<28}{row['way']:<20}{told:>28}{row['texts_per_s']['median']:>10.0f}{mark}")
    print(f"\n{'':<28}{'question, us':>28}  {'cosine min':>12}{'mean':>10}  tile registers")
    for name, query in result["query_p50_us"].items():
        told = f"{query['median']:.0f} [{query['low']:.0f}..{query['high']:.0f}]"
        cosine = result["cosine_to_memfuse_fp32"][name]
        tiles = "asked for" if result["tiles"][name] else "no"
        print(f"{name:<28}{told:>28}  {cosine['min']:>12.5f}{cosine['mean']:>10.5f}  {tiles}")
    for own, against in result["ratios"].items():
        print(f"\n{own} is faster than")
        for name, times in against.items():
            print(f"  {name:<44}{times['median']:>7.2f} times [{times['low']:.2f}..{times['high']:.2f}]")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="folder of the model")
    parser.add_argument("--library", type=Path, required=True, help="libmemfuse.so")
    parser.add_argument("--build", type=Path, required=True, help="folder for the graphs made")
    parser.add_argument("--texts", type=Path, help="messages, one per line (default: made from the golden texts)")
    parser.add_argument("--count", type=int, default=128, help="messages to make (default: 128)")
    parser.add_argument("--rounds", type=int, default=9, help="default: 9")
    parser.add_argument("--precisions", default="int8,bf16,fp32", help="of memfuse (default: int8,bf16,fp32)")
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)), help="default: the last one")
    parser.add_argument("--without-tiles", action="store_true", help="nobody gets the tile registers of AMX")
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    return parser.parse_args()


def main() -> None:
    options = parse()
    if options.texts:
        lines = options.texts.read_text(encoding="utf-8").splitlines()
        messages = [line for line in lines if line]
    else:
        messages = built_in.messages(options.count)
    tokens = sum(map(len, worker.token_ids(options.model, messages)))
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "texts"
        file.write_text("\n".join(messages) + "\n", encoding="utf-8")
        runtimes = start_all(options, file)
        try:
            measure(runtimes, options.rounds, Path(scratch))
        finally:
            for runtime in runtimes:
                runtime.process.stdin.close()
                runtime.process.wait()
    result = report(runtimes, len(messages), tokens)
    show(result)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
