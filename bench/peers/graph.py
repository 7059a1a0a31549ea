"""Writes a BERT sentence encoder as an ONNX graph the way ONNX Runtime likes it best.

The fused operators are those its own optimiser for transformers ends up with
(EmbedLayerNormalization, Attention, SkipLayerNormalization, BiasGelu).  Writing them at
once spares an exporter and its versions; what remains, such as the fusion of dynamic
quantisation with products, the session does itself when it loads the graph.

Inputs: input_ids int32 [B, S]; lengths int32 [B], tokens of each text, which stand left;
pool float [B, 1, S], 1 / length for each token and 0 for padding.  Output: vectors
float [B, D] of length 1.
"""

import json
import logging
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from safetensors.numpy import load_file

FUSED = "com.microsoft"


class Graph:
    """Nodes and weights in the making."""

    def __init__(self, model_dir: Path):
        self.config = json.loads((model_dir / "config.json").read_text())
        self.tensors = load_file(model_dir / "model.safetensors")
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def weight(self, name: str, value: np.ndarray) -> str:
        value = np.ascontiguousarray(value, dtype=np.float32)
        self.initializers.append(numpy_helper.from_array(value, name))
        return name

    def named(self, name: str, *, transpose: bool = False) -> str:
        value = self.tensors[name]
        return self.weight(name, value.T if transpose else value)

    def node(self, op: str, inputs: list[str], output: str, domain: str = FUSED, **attributes) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, domain=domain, **attributes))
        return output

    def product(self, x: str, module: str, output: str) -> str:
        """Without the bias, which the operator behind it adds."""
        weight = self.named(f"{module}.weight", transpose=True)
        return self.node("MatMul", [x, weight], output, domain="")

    def embed(self) -> str:
        prefix = "embeddings"
        output = self.node(
            "EmbedLayerNormalization",
            [
                "input_ids",
                "",  # one kind of text
                self.weight("words", self.tensors[f"{prefix}.word_embeddings.weight"]),
                self.weight(
                    "positions",
                    self.tensors[f"{prefix}.position_embeddings.weight"]
                    + self.tensors[f"{prefix}.token_type_embeddings.weight"][0],
                ),
                "",
                self.named(f"{prefix}.LayerNorm.weight"),
                self.named(f"{prefix}.LayerNorm.bias"),
            ],
            "embedded",
            epsilon=self.config["layer_norm_eps"],
        )
        self.nodes[-1].output.append("mask_index")
        return output

    def norm(self, x: str, skip: str, module: str, bias: str, output: str) -> str:
        inputs = [x, skip, self.named(f"{module}.weight"), self.named(f"{module}.bias"), self.named(bias)]
        return self.node("SkipLayerNormalization", inputs, output, epsilon=self.config["layer_norm_eps"])

    def layer(self, x: str, index: int) -> str:
        prefix = f"encoder.layer.{index}"
        own = f"{prefix}.attention.self"
        three = [f"{own}.{part}" for part in ("query", "key", "value")]
        weight = np.concatenate([self.tensors[f"{part}.weight"].T for part in three], axis=1)
        bias = np.concatenate([self.tensors[f"{part}.bias"] for part in three])
        context = self.node(
            "Attention",
            [x, self.weight(f"qkv_{index}", weight), self.weight(f"qkv_bias_{index}", bias), "lengths"],
            f"context_{index}",
            num_heads=self.config["num_attention_heads"],
        )
        out = self.product(context, f"{prefix}.attention.output.dense", f"attended_{index}")
        x = self.norm(
            out,
            x,
            f"{prefix}.attention.output.LayerNorm",
            f"{prefix}.attention.output.dense.bias",
            f"middle_{index}",
        )
        inner = self.product(x, f"{prefix}.intermediate.dense", f"inner_{index}")
        inner = self.node("BiasGelu", [inner, self.named(f"{prefix}.intermediate.dense.bias")], f"gelu_{index}")
        outer = self.product(inner, f"{prefix}.output.dense", f"outer_{index}")
        return self.norm(outer, x, f"{prefix}.output.LayerNorm", f"{prefix}.output.dense.bias", f"layer_{index}")

    def model(self) -> onnx.ModelProto:
        x = self.embed()
        for index in range(self.config["num_hidden_layers"]):
            x = self.layer(x, index)
        mean = self.node("MatMul", ["pool", x], "mean", domain="")
        self.initializers.append(numpy_helper.from_array(np.array([1], dtype=np.int64), "axis"))
        flat = self.node("Squeeze", [mean, "axis"], "flat", domain="")
        self.node("LpNormalization", [flat], "vectors", domain="", axis=1, p=2)
        graph = helper.make_graph(
            self.nodes,
            "encoder",
            [
                helper.make_tensor_value_info("input_ids", TensorProto.INT32, ["B", "S"]),
                helper.make_tensor_value_info("lengths", TensorProto.INT32, ["B"]),
                helper.make_tensor_value_info("pool", TensorProto.FLOAT, ["B", 1, "S"]),
            ],
            [helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["B", self.config["hidden_size"]])],
            self.initializers,
        )
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid(FUSED, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def write_graphs(model_dir: Path, folder: Path) -> dict[str, Path]:
    """Writes both graphs, unless they are there, and tells where."""
    paths = {"fp32": folder / "encoder_fp32.onnx", "int8": folder / "encoder_int8.onnx"}
    folder.mkdir(parents=True, exist_ok=True)
    if not paths["fp32"].exists():
        onnx.save(Graph(model_dir).model(), paths["fp32"])
    if not paths["int8"].exists():
        logging.disable(logging.WARNING)  # it wants shapes inferred, which changes nothing here
        quantize_dynamic(
            paths["fp32"],
            paths["int8"],
            op_types_to_quantize=["MatMul", "Attention"],
            per_channel=True,
            weight_type=QuantType.QInt8,
            extra_options={"DefaultTensorType": TensorProto.FLOAT},
        )
    return paths
