"""ONNX Runtime: an ONNX file as a network that takes and gives tensors of torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from vreid_cli.errors import DeviceError, ExportError, UsageError, first_line
from vreid_cli.runtime.extras import missing_packages, require_extra

#: ONNX Runtime warns about every node that it could not fuse; errors are raised besides.
_LOG_ERRORS = 3
#: Threads that wait must not keep a core busy which decoding wants; and where another program holds one of them for a
#: while, the others take over what is left of its share. Which thread computes what changes no number.
_SHARING = {"session.intra_op.allow_spinning": "0", "session.dynamic_block_base": "4"}
#: It rounds to int8 before a maximum that a quantised network takes in fp32; in int8, behind a step in fp32, a maximum
#: takes 20 times as long.
_HARMFUL = ["QDQPropagationTransformer"]
_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
_CPU = torch.device("cpu")
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
#: What its arenas and the C++ library say of too little memory; there is no class for it.
_OUT_OF_MEMORY = ("Failed to allocate memory", "bad_alloc", "bad allocation", "out of memory")


def require_onnx(needed_by: str) -> None:
    """Refuse work for which the extra ``onnx`` is not installed.

    Raises:
        MissingExtraError: A package is missing; says what to install.
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
    """A network that is an ONNX file, run by ONNX Runtime; on a CPU with as many threads as torch has.

    Args:
        path: The file. Its first input takes images, and of its outputs only one is computed.
        device: ``cpu`` or ``cuda``.
        output: Name of that output; None for the first.

    Attributes:
        facts: What the file says about itself.
        batch: How many images it takes at a time; None for any number.

    Raises:
        ExportError: ONNX Runtime cannot load the file.
        UsageError, DeviceError: ONNX Runtime cannot compute on the device; nothing falls back to the CPU.
    """

    def __init__(self, path: Path, *, device: torch.device = _CPU, output: str | None = None) -> None:
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
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=providers, disabled_optimizers=_HARMFUL
            )
            self._input = self._session.get_inputs()[0]
            self._output = output or self._session.get_outputs()[0].name
        except Exception as error:  # its own exceptions have no common base
            raise ExportError(f"{path}: ONNX Runtime cannot load it: {first_line(error)}", file=path) from error
        if self._session.get_providers()[0] != _PROVIDERS[device.type]:  # it only warns of a missing library
            raise DeviceError(
                f"ONNX Runtime could not start on {device}",
                hint="its build must fit the CUDA and cuDNN that are installed; --backend torch does without it",
            )
        self.facts: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)
        batch = self._input.shape[0]
        self.batch = batch if isinstance(batch, int) else None
        self._shape: tuple[int, ...] | None = None  # of the output for one image, once it is known

    def shape_of(self, images: torch.Tensor) -> tuple[int, ...]:
        """Shape of the output, without the batch, for such images; computed once, since graphs may not tell it.

        Raises:
            ExportError: ONNX Runtime cannot compute it.
        """
        if self._shape is None:
            one = images[:1].expand(self.batch or 1, -1, -1, -1).to("cpu", torch.float32).numpy()
            try:
                (found,) = self._session.run([self._output], {self._input.name: one})
            except Exception as error:  # its own exceptions have no common base
                raise _failure(error, one.shape) from error
            self._shape = tuple(found.shape[1:])
        return self._shape

    def latent(self, images: torch.Tensor) -> torch.Tensor:
        """LRs (B, D) of normalised images (B, 3, H, W), both float32 on the device.

        Raises:
            MemoryError: The memory of the device does not suffice.
            ExportError: ONNX Runtime cannot compute them.
        """
        images = images.to(self._device, torch.float32)
        if self.batch is None:
            return self._run(images)
        # The last image again and again, where a batch of fixed size is not full.
        missing = -len(images) % self.batch
        filled = torch.cat([images, images[-1:].expand(missing, -1, -1, -1)])
        return torch.cat([self._run(piece) for piece in filled.split(self.batch)])[: len(images)]

    def _run(self, images: torch.Tensor) -> torch.Tensor:
        images = images.contiguous()  # what is read through a bare address
        shape = (len(images), *self.shape_of(images))
        latent = torch.empty(shape, dtype=torch.float32, device=self._device)
        where = (self._device.type, self._index, np.float32)
        binding = self._session.io_binding()
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)  # it works on a stream of its own
        try:
            # It reads and writes torch's memory: nothing is copied, and nothing leaves the device.
            binding.bind_input(self._input.name, *where, tuple(images.shape), images.data_ptr())
            binding.bind_output(self._output, *where, shape, latent.data_ptr())
            self._session.run_with_iobinding(binding)
        except Exception as error:  # its own exceptions have no common base
            raise _failure(error, tuple(images.shape)) from error
        return latent.flatten(1)


def _failure(error: Exception, shape: tuple[int, ...]) -> Exception:
    """What ONNX Runtime means by an error of its own."""
    if any(words in str(error) for words in _OUT_OF_MEMORY):
        return MemoryError(first_line(error))
    return ExportError(
        f"ONNX Runtime cannot compute images of shape {shape}: {first_line(error)}",
        hint="a graph that was made from one image may take no more: try --batch-size 1",
    )
