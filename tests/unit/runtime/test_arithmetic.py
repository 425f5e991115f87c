"""Precisions: set for the forward pass only, and refused where a device does not have them."""

from __future__ import annotations

import pytest
import torch

from vreid_cli.errors import UsageError
from vreid_cli.runtime.devices import arithmetic, check_precision


@pytest.mark.parametrize(
    ("precision", "products", "tf32"), [("fp32", "highest", False), ("tf32", "high", True), ("bf16", "highest", False)]
)
def test_arithmetic_is_set_for_the_forward_pass_only(precision: str, products: str, tf32: bool):
    def found() -> tuple[str, bool, bool]:
        return (
            torch.get_float32_matmul_precision(),
            torch.backends.cudnn.allow_tf32,
            torch.is_autocast_enabled("cpu"),
        )

    before = found()
    with arithmetic(precision, torch.device("cpu")):
        assert found() == (products, tf32, precision == "bf16")
    assert found() == before


def test_tf32_is_for_cuda_only():
    check_precision("tf32", torch.device("cuda:1"))
    for device in ("cpu", "mps"):
        with pytest.raises(UsageError, match=f"--precision tf32: {device} has no such arithmetic"):
            check_precision("tf32", torch.device(device))
