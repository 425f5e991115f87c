"""Small ONNX files as other programs write them, and what plain ONNX Runtime computes from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

WIDTH = 5


def write_graph(
    path: Path,
    *,
    images: Sequence[int | str] = ("N", 3, "H", "W"),
    kind: int = TensorProto.FLOAT,
    flat: bool = True,
    second: bool = False,
    seed: int = 0,
    facts: Mapping[str, str] | None = None,
) -> Path:
    """A convolution, a ReLU and an average: images to (N, 5), or (N, 5, 1, 1).

    Args:
        path: Where to write.
        images: Shape of the input.
        kind: Type of the input's numbers.
        flat: Whether the last two dimensions of the output are dropped.
        second: Whether there is an output before it, ``logits`` (N, 2).
        seed: Makes the weights.
        facts: The file's metadata.
    """
    random = np.random.default_rng(seed)
    weights = {
        "kernels": random.normal(size=(WIDTH, 3, 3, 3)).astype(np.float32),
        "bias": random.normal(size=WIDTH).astype(np.float32),
        "classes": random.normal(size=(WIDTH, 2)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["images", "kernels", "bias"], ["maps"], strides=[2, 2]),
        helper.make_node("Relu", ["maps"], ["positive"]),
        helper.make_node("GlobalAveragePool", ["positive"], ["embedding" if not flat else "pooled"]),
    ]
    if flat:
        nodes.append(helper.make_node("Flatten", ["pooled"], ["embedding"]))
    outputs = [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, None)]
    if second:
        nodes.append(helper.make_node("MatMul", ["embedding", "classes"], ["logits"]))
        outputs.insert(0, helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 2]))
    graph = helper.make_graph(
        nodes,
        "toy",
        [helper.make_tensor_value_info("images", kind, list(images))],
        outputs,
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, dict(facts or {}))
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(path))
    return path


def run_plainly(path: Path, images: NDArray[np.float32], output: str = "embedding") -> NDArray[np.float32]:
    """The output (N, 5) for images (N, 3, H, W), one image at a time."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.concatenate([session.run([output], {"images": one[None]})[0].reshape(1, -1) for one in images])
