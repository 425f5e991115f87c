"""The choice of the matrix product: by measured speed among those whose measured error is float32's."""

from __future__ import annotations

import json
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch

from vreid_cli import FeatureSet, RankingOptions, rank
from vreid_cli.runtime import products
from vreid_cli.runtime.options import RuntimeOptions
from vreid_cli.runtime.products import ERROR_LIMIT, PATHS, Product, choose_product, measure_products

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VREID_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(products, "_PROBE", (64, 64, 256))
    return tmp_path / "cache" / "products.json"


def by_bfloat16(rows: torch.Tensor, columns: torch.Tensor, out: torch.Tensor) -> None:
    out.copy_(rows.bfloat16() @ columns.bfloat16().T)


def speeds(**measured: tuple[float, float]) -> object:
    return patch.object(products, "measure_products", return_value=measured)


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 7), (65, 1, 1920), (128, 33, 512)])
def test_every_path_is_the_product(name: str, shape: tuple[int, int, int]) -> None:
    n, m, width = shape
    rows, columns = torch.randn(n, width), torch.randn(m, width)
    out = torch.empty(n, m)
    # A process may allow anything for its own products: ours stay exact, and its setting stays as it was.
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        with PATHS[name].allowed():
            assert PATHS[name](rows, columns, out=out) is out
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)
    exact = rows.double() @ columns.double().T
    scale = rows.norm(dim=1)[:, None] * columns.norm(dim=1)
    if name != "onednn":  # which on some chips is bfloat16: that is what the measured error is for
        assert float(((out.double() - exact) / scale).abs().max()) <= ERROR_LIMIT


def test_the_error_tells_bfloat16_from_float32() -> None:
    measured = measure_products({"torch": products.TORCH, "short": Product("short", by_bfloat16)}, rounds=1)
    assert measured["torch"][1] <= ERROR_LIMIT
    assert measured["short"][1] > 100 * ERROR_LIMIT


def test_the_fastest_accurate_path_is_taken_and_kept(cache: Path) -> None:
    with speeds(torch=(100, 3e-7), numpy=(200, 5e-7), onednn=(900, 4e-3)):  # type: ignore[attr-defined]
        assert choose_product(CPU, multiplications=1e12).name == "numpy"
    assert list(json.loads(cache.read_text()).values()) == ["numpy"]
    with patch.object(products, "measure_products", side_effect=AssertionError("measured twice")):
        assert choose_product(CPU, multiplications=1e12).name == "numpy"
        # Small work is not worth the measurement, and must not depend on whether it was made.
        assert choose_product(CPU, multiplications=1e9).name == "torch"
        assert choose_product(CPU, multiplications=1e12, name="torch").name == "torch"
    with patch.object(products, "machine", return_value="another"), speeds(torch=(9, 0), numpy=(8, 0)):  # type: ignore[attr-defined]
        assert choose_product(CPU, multiplications=1e12).name == "torch"
    assert sorted(json.loads(cache.read_text()).values()) == ["numpy", "torch"]


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"x": 1}'])
def test_a_damaged_cache_is_measured_again(cache: Path, damage: str) -> None:
    cache.parent.mkdir()
    cache.write_text(damage)
    assert choose_product(CPU, multiplications=1e12).name in PATHS
    assert products.machine() in json.loads(cache.read_text())


def test_a_cache_that_cannot_be_written_costs_only_time(cache: Path) -> None:
    cache.parent.write_text("a file where the folder should be")
    assert choose_product(CPU, multiplications=1e12).name in PATHS


def test_no_accurate_path_leaves_the_plain_one() -> None:
    with speeds(torch=(1, 1e-3), numpy=(2, 1e-3)):  # type: ignore[attr-defined]
        assert choose_product(CPU, multiplications=1e12).name == "torch"


@pytest.mark.parametrize("name", PATHS)
def test_rankings_agree_whatever_computes_the_products(name: str) -> None:
    if measure_products({name: PATHS[name]}, rounds=1)[name][1] > ERROR_LIMIT:
        pytest.skip("this chip computes such products with fewer digits")
    rng = np.random.default_rng(0)
    sides = [
        FeatureSet.from_arrays(rng.normal(size=(n, 640)).astype(np.float32), track_id=[f"t{i // 3}" for i in range(n)])
        for n in (12, 40)
    ]
    metrics = ("meanMED50", "meanMCD50")
    expected = rank(*sides, RankingOptions(metric=metrics))
    found = rank(*sides, RankingOptions(metric=metrics), runtime=RuntimeOptions(product=name))
    for metric in metrics:
        for one, other in zip(found[metric].blocks, expected[metric].blocks, strict=True):
            np.testing.assert_allclose(one.distance, other.distance, rtol=1e-5)
