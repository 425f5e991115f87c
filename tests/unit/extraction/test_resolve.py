"""How LRs are computed where nobody says: the one rule, and what goes before it."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from extraction_bench import CPU, load_tiny

from vreid_cli.errors import UsageError
from vreid_cli.extraction import resolve
from vreid_cli.extraction.options import ExtractionOptions
from vreid_cli.extraction.resolve import check_inference, choose_backend, resolve_inference
from vreid_cli.store.parts import PartFacts

HERE = {"device": "cpu", "precision": "fp32", "images": 2_000, "installed": True, "exported": False}


@pytest.mark.parametrize(
    ("changes", "expected", "why"),
    [
        ({}, "onnx", "2,000 images repay its export"),
        ({"images": 1_999}, "torch", "1,999 images do not repay"),
        ({"images": 1, "exported": True}, "onnx", "its export is kept"),
        ({"installed": False}, "torch", "the extra onnx is not installed"),
        ({"installed": False, "images": 5}, "torch", "do not repay"),
        ({"installed": False, "exported": True}, "torch", "the extra onnx is not installed"),
        ({"precision": "bf16"}, "torch", "fp32, not bf16"),
        ({"device": "cuda", "exported": True}, "torch", "always on cuda"),
        ({"device": "mps"}, "torch", "always on mps"),
    ],
)
def test_the_rule(changes: dict[str, object], expected: str, why: str):
    here = {**HERE, **changes}
    name, reason = choose_backend(here.pop("device"), here.pop("precision"), **here)
    assert name == expected
    assert why in reason


def facts(**recorded: str) -> PartFacts:
    return PartFacts({"backend": "onnx"}, recorded, "", "", ())


def resolved(tmp_path: Path, earlier: PartFacts | None = None, **options: object) -> tuple[str, str, int]:
    inference = resolve_inference(
        load_tiny(), ExtractionOptions(**options), device=CPU, images=10, earlier=earlier, cache_dir=tmp_path
    )
    config = inference.config
    return config.backend, config.reason, config.batch_size


def test_what_is_asked_for_goes_first(tmp_path: Path):
    assert resolved(tmp_path) == ("torch", "10 images do not repay an export to ONNX", 8)
    assert resolved(tmp_path, backend="onnx", batch_size=5) == ("onnx", "as asked", 5)
    before = facts(device="cpu", batch_size="3")
    assert resolved(tmp_path, before, backend="torch", batch_size=5) == ("torch", "as asked", 5)


def test_then_what_made_the_features_that_are_there(tmp_path: Path):
    assert resolved(tmp_path, facts(device="cpu", batch_size="3")) == ("onnx", "as the features that are there", 3)
    # What suits another device may not fit into the memory of this one.
    assert resolved(tmp_path, facts(device="cuda", batch_size="128"))[2] == 8
    assert resolved(tmp_path, facts(device="cpu", batch_size="many"))[2] == 8


def test_what_cannot_be_is_refused_by_the_name_that_was_used():
    with pytest.raises(UsageError, match=r"extract\.precision tf32: cpu has no such arithmetic"):
        check_inference(ExtractionOptions(precision="tf32"), CPU)
    with pytest.raises(UsageError, match="--backend onnx: ONNX Runtime computes in fp32 or int8, not in bf16"):
        check_inference(ExtractionOptions(precision="bf16", backend="onnx"), CPU, name=lambda field: f"--{field}")
    with pytest.raises(UsageError, match="it runs on cpu and cuda, not on mps"):
        check_inference(ExtractionOptions(backend="onnx"), torch.device("mps"))
    with pytest.raises(UsageError, match=r"extract\.precision int8: it is for a CPU, not for cuda"):
        check_inference(ExtractionOptions(precision="int8"), torch.device("cuda"))
    with pytest.raises(UsageError, match="--backend torch: only ONNX Runtime computes in int8"):
        check_inference(ExtractionOptions(precision="int8", backend="torch"), CPU, name=lambda field: f"--{field}")
    with pytest.raises(UsageError, match="int8 has to see images before it computes"):
        resolve_inference(load_tiny(), ExtractionOptions(precision="int8"), device=CPU, images=0)


@pytest.fixture(scope="module")
def int8_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        ((0.3, 0.1), "int8 is 3.0 x as fast as fp32 on this chip"),
        ((0.1, 0.2), "int8 does not pay on this chip: 0.50 x as fast as fp32, which is exact"),
    ],
)
def test_whether_int8_pays_is_measured_and_said(
    int8_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    seconds: tuple[float, float],
    said: str,
):
    steps = itertools.cycle((seconds[0], 0, seconds[1], 0))
    clock = itertools.accumulate(steps, initial=0.0)
    monkeypatch.setattr(resolve, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    caplog.set_level("INFO")
    coarse = torch.rand(16, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 255
    pixels = torch.nn.functional.interpolate(coarse, size=(32, 32)).byte()
    options = ExtractionOptions(precision="int8")
    inference = resolve_inference(
        load_tiny(), options, device=CPU, images=16, cache_dir=int8_cache, sample=lambda: pixels
    )
    # Asked for is asked for: it is said, and int8 computes.
    assert said in caplog.text
    assert "int8 against fp32 on 4 other images: LRs moved by" in caplog.text
    assert (inference.identity["precision"], inference.identity["backend"]) == ("int8", "onnx")
    assert inference.identity["quantised_by"] == inference.quantised.digest
