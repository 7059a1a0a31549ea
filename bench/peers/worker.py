"""One runtime in a process of its own, which encodes the messages whenever it is told to.

run.py starts one worker per runtime, pinned to one core, and sends a line of JSON for each
turn: {"way": NAME} encodes all messages once in that way, {"query": COUNT} asks the
ten-token question so often, {"save": FILE} writes the vectors of the first way.  Each is
answered with one line.  Times are processor time of this process, so whatever threads a
runtime may have are counted.
"""

import argparse
import ctypes
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

PASS_SECONDS = 0.3
QUESTION = "what did my sister say about lisbon"
PADDED = (32, 64)  # texts in a batch as they come, padded to the longest of them
SORTED = (2, 4, 8, 16)  # the same after sorting by length

ARCH_PRCTL = 158
GET_PERMISSION, TILE_DATA = 0x1022, 1 << 18

Run = Callable[[], np.ndarray]


class Runtime:
    """What a worker needs of a runtime: ways to encode all messages, and one question."""

    ways: dict[str, Run]
    ask: Callable[[], object]


def token_ids(model_dir: Path, texts: list[str]) -> list[list[int]]:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model_dir / "tokenizer.json"))
    tokenizer.no_padding()
    return [encoding.ids for encoding in tokenizer.encode_batch(texts)]


class OnnxRuntime(Runtime):
    """Texts come as token ids, made before the clock starts."""

    def __init__(self, model_dir: Path, graph: Path, texts: list[str]):
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.set_denormal_as_zero", "1")
        self.session = ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        *ids, question = token_ids(model_dir, [*texts, QUESTION])
        as_it_comes = list(range(len(ids)))
        by_length = sorted(as_it_comes, key=lambda i: len(ids[i]))
        plans = {"one by one": (1, as_it_comes)}
        plans |= {f"sorted, {size} at once": (size, by_length) for size in SORTED}
        plans |= {f"padded, {size} at once": (size, as_it_comes) for size in PADDED}
        self.ways = {name: self.way(ids, size, order) for name, (size, order) in plans.items()}
        fed = self.feed([question])
        self.ask = lambda: self.session.run(None, fed)

    @staticmethod
    def feed(batch: list[list[int]]) -> dict[str, np.ndarray]:
        width = max(map(len, batch))
        ids = np.zeros((len(batch), width), np.int32)
        pool = np.zeros((len(batch), 1, width), np.float32)
        for row, text in enumerate(batch):
            ids[row, : len(text)] = text
            pool[row, 0, : len(text)] = 1 / len(text)
        return {"input_ids": ids, "lengths": np.array([len(text) for text in batch], np.int32), "pool": pool}

    def way(self, ids: list[list[int]], size: int, order: list[int]) -> Run:
        batches = [order[i : i + size] for i in range(0, len(order), size)]
        feeds = [self.feed([ids[i] for i in batch]) for batch in batches]

        def run() -> np.ndarray:
            parts = [self.session.run(None, fed)[0] for fed in feeds]
            vectors = np.empty((len(ids), parts[0].shape[1]), np.float32)
            vectors[order] = np.concatenate(parts)
            return vectors

        return run


class SentenceTransformers(Runtime):
    """Sorts by length, pads and tokenises by itself."""

    def __init__(self, model_dir: Path, dtype: str, texts: list[str]):
        import torch
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging

        logging.disable_progress_bar()
        torch.set_num_threads(1)
        model = SentenceTransformer(
            str(model_dir), device="cpu", local_files_only=True, model_kwargs={"dtype": getattr(torch, dtype)}
        )
        model.eval()

        def encode(what: list[str], size: int) -> np.ndarray:
            return model.encode(
                what, batch_size=size, show_progress_bar=False, convert_to_numpy=True, normalize_embeddings=True
            )

        sizes = {"one by one": 1, "sorted, 8 at once": 8, "sorted, 32 at once": 32}
        self.ways = {name: lambda size=size: encode(texts, size) for name, size in sizes.items()}
        self.ask = lambda: encode([QUESTION], 1)


class ModelOptions(ctypes.Structure):
    _fields_ = [("precision", ctypes.c_char_p), ("threads", ctypes.c_size_t), ("cache_count", ctypes.c_size_t)]


class ModelText(ctypes.Structure):
    _fields_ = [("p", ctypes.c_char_p), ("len", ctypes.c_size_t)]


class Memfuse(Runtime):
    """include/memfuse/model.h, which tokenises as well; no cache, one thread."""

    def __init__(self, library: Path, model_dir: Path, precision: str, texts: list[str]):
        self.lib = ctypes.CDLL(str(library))
        self.lib.mf_model_options_default.restype = ModelOptions
        self.lib.mf_model_dim.restype = ctypes.c_size_t
        self.lib.mf_model_dim.argtypes = [ctypes.c_void_p]
        self.error = ctypes.create_string_buffer(512)
        options = self.lib.mf_model_options_default()
        options.precision = precision.encode()
        options.threads = 1
        options.cache_count = 0
        self.model = ctypes.c_void_p()
        self.must(
            self.lib.mf_model_open(str(model_dir).encode(), ctypes.byref(options), ctypes.byref(self.model), self.error)
        )
        self.dim = self.lib.mf_model_dim(self.model)
        self.ways = {"packed": self.encoder(texts)}
        self.ask = self.encoder([QUESTION])

    def must(self, code: int) -> None:
        if code != 0:
            sys.exit(f"memfuse: {self.error.value.decode()}")

    def encoder(self, texts: list[str]) -> Run:
        encoded = [text.encode() for text in texts]
        array = (ModelText * len(encoded))(*[ModelText(text, len(text)) for text in encoded])
        vectors = np.empty((len(texts), self.dim), np.float32)
        out = vectors.ctypes.data_as(ctypes.c_void_p)

        def run() -> np.ndarray:
            self.must(self.lib.mf_model_embed(self.model, array, ctypes.c_size_t(len(encoded)), out, None, self.error))
            return vectors

        return run


def refuse_tiles() -> None:
    """Makes the kernel refuse this process the tile registers of AMX (seccomp), and with
    them the choice of any runtime to use them."""
    load, jump_if_equal, give = 0x20, 0x15, 0x06
    allow, refuse = 0x7FFF0000, 0x00050000 | 1  # errno EPERM
    program = [
        (load, 0, 0, 0),  # number of the system call
        (jump_if_equal, 0, 3, ARCH_PRCTL),
        (load, 0, 0, 16),  # its first argument
        (jump_if_equal, 0, 1, 0x1023),  # ask for permission
        (give, 0, 0, refuse),
        (give, 0, 0, allow),
    ]
    code = b"".join(op.to_bytes(2, "little") + bytes([yes, no]) + k.to_bytes(4, "little") for op, yes, no, k in program)

    class Program(ctypes.Structure):
        _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_char_p)]

    libc = ctypes.CDLL(None, use_errno=True)
    no_new_privileges, set_seccomp, filter_mode = 38, 22, 2
    filter_program = Program(len(program), code)
    if libc.prctl(no_new_privileges, 1, 0, 0, 0) != 0 or (
        libc.prctl(set_seccomp, filter_mode, ctypes.byref(filter_program)) != 0
    ):
        sys.exit("the kernel takes no system call filter")


def has_tiles() -> bool:
    """Whether this process has asked for the tile registers, and so means to use them."""
    mask = ctypes.c_uint64()
    failed = ctypes.CDLL(None).syscall(ARCH_PRCTL, GET_PERMISSION, ctypes.byref(mask))
    return failed == 0 and bool(mask.value & TILE_DATA)


def open_runtime(arguments: argparse.Namespace, texts: list[str]) -> Runtime:
    match arguments.runtime:
        case "onnxruntime":
            return OnnxRuntime(arguments.model, arguments.graph, texts)
        case "sentence-transformers":
            return SentenceTransformers(arguments.model, arguments.precision, texts)
        case _:
            return Memfuse(arguments.library, arguments.model, arguments.precision, texts)


def answer(runtime: Runtime, request: dict) -> dict:
    if "way" in request:
        run = runtime.ways[request["way"]]
        passes = 0
        start = time.process_time()
        while (spent := time.process_time() - start) < PASS_SECONDS:
            run()
            passes += 1
        return {"seconds": spent / passes}
    if "query" in request:
        runtime.ask()
        times = []
        for _ in range(request["query"]):
            start = time.process_time()
            runtime.ask()
            times.append(time.process_time() - start)
        return {"query_us": [1e6 * t for t in times]}
    np.save(request["save"], next(iter(runtime.ways.values()))())
    return {"tiles": has_tiles()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runtime", choices=["onnxruntime", "sentence-transformers", "memfuse"])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--graph", type=Path)
    parser.add_argument("--library", type=Path)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--without-tiles", action="store_true")
    arguments = parser.parse_args()
    if arguments.without_tiles:
        refuse_tiles()
    texts = arguments.texts.read_text(encoding="utf-8").splitlines()
    # Whatever a runtime prints must not come between the answers.
    answers, sys.stdout = sys.stdout, sys.stderr
    runtime = open_runtime(arguments, texts)
    print(json.dumps({"ways": list(runtime.ways)}), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(runtime, json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
