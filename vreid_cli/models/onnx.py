"""The LR network as an ONNX file: written, and compared with torch.

The graph takes ``images`` float32 (N, 3, H, W), normalised as the transform does, and gives ``latent`` float32
(N, D): what :meth:`Network.latent` computes, neck included. The file's metadata say what it is.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vreid_cli.errors import ExportError, first_line
from vreid_cli.models.network import Network
from vreid_cli.models.onnx_session import OnnxNetwork
from vreid_cli.models.weights import LoadedNetwork
from vreid_cli.runtime.devices import exact_float32
from vreid_cli.runtime.files import atomic_path
from vreid_cli.runtime.progress import log
from vreid_cli.types.amounts import amount

#: Relative to the largest value of the batch; float32 sums in another order stay a few times below it.
PARITY_TOLERANCE = 1e-5
#: One image alone, and a number that no kernel is blocked by: a graph with a fixed batch fails at one of them.
PARITY_BATCHES = (1, 7)
#: Of 2022, with all that the table's networks need; older run times and other engines read it too.
_OPSET = 18
_INPUT, _OUTPUT = "images", "latent"


def write_onnx(path: Path, loaded: LoadedNetwork, *, facts: Mapping[str, str]) -> dict[int, float]:
    """Export a network to one self-contained file that appears only once it computes what torch does.

    Args:
        path: Where to write; replaced, if it is there.
        loaded: On the CPU.
        facts: For the file's metadata, beside architecture, weights, their digest and the transform.

    Returns:
        The relative error of each batch size of :data:`PARITY_BATCHES`.

    Raises:
        ExportError: torch cannot export the network, or the file computes something else.
        StoreError: The file cannot be written.
    """
    program = _export(loaded, facts=facts)
    with atomic_path(path) as temporary:
        # External data would be a second file, which a renamed or copied model loses.
        program.save(temporary, external_data=False)
        return check_parity(OnnxNetwork(temporary), loaded, name=path)


def check_parity(
    exported: OnnxNetwork, loaded: LoadedNetwork, *, name: Path, batches: Sequence[int] = PARITY_BATCHES
) -> dict[int, float]:
    """Compare an exported network with torch on random pixels; both on the CPU.

    Args:
        exported: What is checked.
        loaded: What is right.
        name: What messages call the exported network.
        batches: Images of each comparison.

    Returns:
        The largest deviation of each batch, relative to its largest value.

    Raises:
        ExportError: One is above :data:`PARITY_TOLERANCE`, or no number.
    """
    if exported.batch is not None:
        raise ExportError(
            f"{name} takes batches of {amount(exported.batch, 'image')} only; it was thrown away", file=name
        )
    errors = {}
    for batch in batches:
        generator = torch.Generator().manual_seed(batch)
        pixels = torch.randint(0, 256, (batch, 3, *loaded.transform.size), generator=generator, dtype=torch.uint8)
        images = loaded.transform.normalise(pixels)
        with torch.inference_mode(), exact_float32():
            expected = loaded.network.latent(images)
        errors[batch] = relative_error(exported.latent(images), expected)
        if not errors[batch] <= PARITY_TOLERANCE:  # so that NaN is refused
            raise ExportError(
                f"{name} would not compute what torch does: relative error {errors[batch]:.1e} at batch {batch}, "
                f"allowed {PARITY_TOLERANCE:.0e}; it was thrown away",
                hint="check that the weights are finite, or try other versions of torch, onnxscript and onnxruntime",
                file=name,
            )
    return errors


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """``max |found - expected| / max |expected|``; infinite where the shapes differ or only ``expected`` is zero."""
    if found.shape != expected.shape:
        return float("inf")
    deviation, scale = float((found - expected).abs().max()), float(expected.abs().max())
    return deviation / scale if scale else 0.0 if deviation == 0 else float("inf")


class _Latent(nn.Module):
    """A network whose forward pass ends at the LR: what the exporter follows."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.network.latent(images)


def _export(loaded: LoadedNetwork, *, facts: Mapping[str, str]) -> Any:
    """The network as torch's ``ONNXProgram``, which says what it is and nothing of the machine that made it."""
    height, width = loaded.transform.size
    # Two images: a batch of one would be taken for a constant.
    example = torch.zeros(2, 3, height, width)
    try:
        with _without_chatter():
            program = torch.onnx.export(
                _Latent(loaded.network).eval(),
                (example,),
                dynamo=True,
                dynamic_shapes={_INPUT: {0: torch.export.Dim("N", min=1)}},
                input_names=[_INPUT],
                output_names=[_OUTPUT],
                opset_version=_OPSET,
                verbose=False,
            )
    except (RuntimeError, ValueError, TypeError) as error:
        log.debug("%s", error)
        raise ExportError(
            f"torch cannot export {loaded.network.backbone.name} for images of {height} x {width}: "
            f"{first_line(error.__cause__ or error)}",
            hint="--verbose shows all of it; it may need other versions of torch and onnxscript",
        ) from error
    assert program is not None
    # The exporter notes for every node the files that its code stood in.
    graph = program.model.graph
    for part in (graph, *graph, *graph.inputs, *graph.outputs):
        part.metadata_props.clear()
    own = {"architecture": loaded.architecture, "weights": loaded.weights, "weights_digest": loaded.digest}
    program.model.metadata_props.update({**facts, **own, "transform": loaded.transform.to_json()})
    return program


@contextlib.contextmanager
def _without_chatter() -> Iterator[None]:
    """Keep what the exporter prints and warns of from the user: only ``--verbose`` shows it."""
    printed = io.StringIO()
    try:
        with warnings.catch_warnings(record=True) as caught, contextlib.redirect_stdout(printed):
            warnings.simplefilter("always")
            yield
    finally:
        for line in (*printed.getvalue().splitlines(), *(str(warning.message) for warning in caught)):
            log.debug("%s", line)
