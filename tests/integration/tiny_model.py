"""Writes a BERT model small enough to be sent over loopback many times: random weights from
a seed, 2 layers, 32 numbers per token, the words of a child's book."""

import json
import random
import struct

HIDDEN, INNER, POSITIONS, LAYERS = 32, 64, 64, 2
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "green", "cat", "dog", "##s", "runs"]


def shapes():
    yield "embeddings.word_embeddings.weight", (len(WORDS), HIDDEN)
    yield "embeddings.position_embeddings.weight", (POSITIONS, HIDDEN)
    yield "embeddings.token_type_embeddings.weight", (2, HIDDEN)
    yield "embeddings.LayerNorm.weight", (HIDDEN,)
    yield "embeddings.LayerNorm.bias", (HIDDEN,)
    square = ["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"]
    for layer in range(LAYERS):
        for name, rows, columns in [
            *((name, HIDDEN, HIDDEN) for name in square),
            ("intermediate.dense", INNER, HIDDEN),
            ("output.dense", HIDDEN, INNER),
        ]:
            yield f"encoder.layer.{layer}.{name}.weight", (rows, columns)
            yield f"encoder.layer.{layer}.{name}.bias", (rows,)
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            yield f"encoder.layer.{layer}.{name}.weight", (HIDDEN,)
            yield f"encoder.layer.{layer}.{name}.bias", (HIDDEN,)


def safetensors(seed=1, spoil=None):
    """`spoil` names a tensor whose first number becomes a NaN."""
    rng = random.Random(seed)
    header, data = {}, bytearray()
    for name, shape in shapes():
        count = shape[0] * (shape[1] if len(shape) > 1 else 1)
        centre = 1.0 if name.endswith("LayerNorm.weight") else 0.0
        values = [centre + rng.uniform(-0.25, 0.25) for _ in range(count)]
        if name == spoil:
            values[0] = float("nan")
        begin = len(data)
        data += struct.pack(f"<{count}f", *values)
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [begin, len(data)]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + bytes(data)


def files(seed=1, spoil=None):
    """The files of the model's folder, as a hub has them."""
    config = {
        "model_type": "bert",
        "architectures": ["BertModel"],
        "hidden_act": "gelu",
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 2,
        "intermediate_size": INNER,
        "max_position_embeddings": POSITIONS,
        "layer_norm_eps": 1e-12,
        "vocab_size": len(WORDS),
        "type_vocab_size": 2,
    }
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
    ]
    pooling = {"word_embedding_dimension": HIDDEN, "pooling_mode_mean_tokens": True}
    return {
        "config.json": json.dumps(config).encode(),
        "vocab.txt": "\n".join(WORDS).encode() + b"\n",
        "tokenizer_config.json": b'{"do_lower_case": true}',
        "sentence_bert_config.json": b'{"max_seq_length": 32}',
        "modules.json": json.dumps(modules).encode(),
        "1_Pooling/config.json": json.dumps(pooling).encode(),
        "model.safetensors": safetensors(seed, spoil),
    }
