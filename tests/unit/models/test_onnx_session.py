"""What ONNX Runtime makes of a graph: seen in the graph that it runs, without a clock."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest
import torch
from extraction_bench import TINY, load_tiny
from torch import nn

from vreid_cli.models import onnx_session
from vreid_cli.models.onnx_cache import cached_quantised
from vreid_cli.models.onnx_session import OnnxNetwork


def _build() -> nn.Module:
    """A maximum behind the first convolution, which stays in fp32, as in ResNet and DenseNet."""
    layers = [nn.Conv2d(3, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 24, 3), nn.ReLU(), nn.Conv2d(24, 10, 3)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(10, 5))


def before_the_maximum(path: Path) -> set[str]:
    """The kinds of nodes that the maximum follows from."""
    nodes = onnx.load(path).graph.node
    makers = {name: node for node in nodes for name in node.output}
    (maximum,) = [node for node in nodes if node.op_type == "MaxPool"]
    found, name = set(), maximum.input[0]
    while name in makers:
        found.add(makers[name].op_type)
        name = makers[name].input[0]
    return found


def test_a_maximum_behind_the_part_in_fp32_is_taken_in_fp32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (40, 3, 32, 32), generator=generator, dtype=torch.uint8)
    loaded = load_tiny(replace(TINY, name="tiny_max", build=_build, head="8"))
    made = cached_quantised(loaded, tmp_path, known=None, sample=lambda: images)
    start, optimised = onnxruntime.InferenceSession, tmp_path / "optimised.onnx"

    def start_and_save(path: str, options: Any, **more: Any) -> Any:
        options.optimized_model_filepath = str(optimised)
        return start(path, options, **more)

    monkeypatch.setattr(onnxruntime, "InferenceSession", start_and_save)
    OnnxNetwork(made.path)
    assert "QuantizeLinear" not in before_the_maximum(optimised)
    # The optimiser that is left out does harm: where it does none any more, or has another name, it need not be named.
    monkeypatch.setattr(onnx_session, "_HARMFUL", [])
    OnnxNetwork(made.path)
    assert "QuantizeLinear" in before_the_maximum(optimised)
