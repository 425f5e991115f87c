"""The LR network as an ONNX file: written, compared with torch, and run by ONNX Runtime.

The graph takes ``images`` float32 (N, 3, S, S), normalised as the transform does, and gives ``latent`` float32
(N, D): what :meth:`Network.latent` computes, neck included. The file's metadata say what it is.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from vreid_cli.errors import DeviceError, ExportError, UsageError, first_line
from vreid_cli.models.network import Network
from vreid_cli.models.weights import LoadedNetwork
from vreid_cli.runtime.devices import exact_float32
from vreid_cli.runtime.extras import missing_packages, require_extra
from vreid_cli.runtime.files import atomic_path
from vreid_cli.runtime.progress import log

#: Relative to the largest value of the batch; float32 sums in another order stay a few times below it.
PARITY_TOLERANCE = 1e-5
#: One image alone, and a number that no kernel is blocked by: a graph with a fixed batch fails at one of them.
PARITY_BATCHES = (1, 7)
#: Of 2022, with all that the five networks need; older run times and other engines read it too.
_OPSET = 18
_INPUT, _OUTPUT = "images", "latent"
#: ONNX Runtime warns about every node that it could not fuse; errors are raised besides.
_LOG_ERRORS = 3
#: Threads that wait must not keep a core busy which decoding wants; and where another program holds one of them for a
#: while, the others take over what is left of its share. Which thread computes what changes no number.
_SHARING = {"session.intra_op.allow_spinning": "0", "session.dynamic_block_base": "4"}
_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
_CPU = torch.device("cpu")
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
#: What its arenas and the C++ library say of too little memory; there is no class for it.
_OUT_OF_MEMORY = ("Failed to allocate memory", "bad_alloc", "bad allocation", "out of memory")


def require_onnx(needed_by: str) -> None:
    """Refuse work for which the extra ``onnx`` is not installed.

    Raises:
        UsageError: A package is missing; says what to install.
    """
    require_extra("onnx", _PACKAGES, needed_by=needed_by)


def has_onnx() -> bool:
    """Whether the extra ``onnx`` is installed."""
    return not missing_packages(_PACKAGES)


def require_onnx_device(device: torch.device, *, name: str = "--backend onnx") -> None:
    """Refuse a device that the installed ONNX Runtime cannot compute on; needs the extra ``onnx``.

    Args:
        device: Where to compute.
        name: What messages call the wish for ONNX Runtime.

    Raises:
        UsageError: ONNX Runtime is never used on such a device.
        DeviceError: This build of ONNX Runtime has no CUDA.
    """
    if device.type not in _PROVIDERS:
        raise UsageError(f"{name}: it runs on cpu and cuda, not on {device}", hint="use --backend torch there")
    import onnxruntime

    if _PROVIDERS[device.type] not in onnxruntime.get_available_providers():
        raise DeviceError(
            f"{name}: the installed ONNX Runtime cannot compute on {device.type}",
            hint="install onnxruntime-gpu instead of onnxruntime, or use --backend torch or --device cpu",
        )


class OnnxNetwork:
    """An exported network, run by ONNX Runtime; on a CPU with as many threads as torch has.

    Args:
        path: The file.
        device: ``cpu`` or ``cuda``.

    Attributes:
        facts: What the file says about itself.

    Raises:
        ExportError: ONNX Runtime cannot load the file.
        UsageError, DeviceError: ONNX Runtime cannot compute on the device; nothing falls back to the CPU.
    """

    def __init__(self, path: Path, *, device: torch.device = _CPU) -> None:
        require_onnx_device(device)
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = _LOG_ERRORS
        for key, value in _SHARING.items():
            options.add_session_config_entry(key, value)
        self._device, self._index, chosen = device, 0, {}
        if device.type == "cuda":
            self._index = torch.cuda.current_device() if device.index is None else device.index
            # By default it would round to TF32, and take twice the memory each time that it needs more.
            chosen = {"device_id": self._index, "use_tf32": 0, "arena_extend_strategy": "kSameAsRequested"}
        try:
            providers = [(_PROVIDERS[device.type], chosen)]
            self._session = onnxruntime.InferenceSession(str(path), options, providers=providers)
            self._width = int(self._session.get_outputs()[0].shape[1])
        except Exception as error:  # its own exceptions have no common base
            raise ExportError(f"{path}: ONNX Runtime cannot load it: {first_line(error)}", file=path) from error
        if self._session.get_providers()[0] != _PROVIDERS[device.type]:  # it only warns of a missing library
            raise DeviceError(
                f"ONNX Runtime could not start on {device}",
                hint="its build must fit the CUDA and cuDNN that are installed; --backend torch does without it",
            )
        self.facts: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)

    def latent(self, images: torch.Tensor) -> torch.Tensor:
        """LRs (B, D) of normalised images (B, 3, S, S), both float32 on the device.

        Raises:
            MemoryError: The memory of the device does not suffice.
            ExportError: ONNX Runtime cannot compute them.
        """
        images = images.to(self._device, torch.float32).contiguous()  # what is read through a bare address
        latent = torch.empty(len(images), self._width, dtype=torch.float32, device=self._device)
        where = (self._device.type, self._index, np.float32)
        binding = self._session.io_binding()
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)  # it works on a stream of its own
        try:
            # It reads and writes torch's memory: nothing is copied, and nothing leaves the device.
            binding.bind_input(_INPUT, *where, tuple(images.shape), images.data_ptr())
            binding.bind_output(_OUTPUT, *where, tuple(latent.shape), latent.data_ptr())
            self._session.run_with_iobinding(binding)
        except Exception as error:  # its own exceptions have no common base
            if any(words in str(error) for words in _OUT_OF_MEMORY):
                raise MemoryError(first_line(error)) from error
            shape = tuple(images.shape)
            raise ExportError(f"ONNX Runtime cannot compute images of shape {shape}: {first_line(error)}") from error
        return latent


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
