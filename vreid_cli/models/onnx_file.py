"""A network of another program, given as an ONNX file: looked at, checked, and run as it is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vreid_cli.errors import ExportError, UsageError, WeightsError, did_you_mean, first_line
from vreid_cli.models.backbones import ONNX
from vreid_cli.models.inputs import InputOptions
from vreid_cli.models.onnx_session import OnnxNetwork, require_onnx
from vreid_cli.models.transforms import Transform
from vreid_cli.runtime.files import real_path, refuse_huge

#: The ending of these files.
ENDING = ".onnx"
_AGAIN = "copy or download it again"
_NEEDED = "needs float32 images (N, 3, H, W)"
_CHUNK = 1 << 20


@dataclass(frozen=True)
class OnnxFile:
    """A network that is an ONNX file; it cannot be trained.

    Attributes:
        path: The file.
        transform: The input that it expects.
        weights: A name of :data:`~vreid_cli.models.sources.SOURCES`, or the file's name.
        digest: SHA-256 of the file, and of the files that hold its tensors, if it has any beside it.
        output: Name of the output that is the LR; None where there is no other.
        dimension: Length D of the LR.
        warnings: What every result that comes from the network has to say.
    """

    path: Path
    transform: Transform
    weights: str
    digest: str
    output: str | None
    dimension: int
    warnings: tuple[str, ...] = ()

    @property
    def architecture(self) -> str:
        """What ``--arch`` calls networks that hold their own architecture."""
        return ONNX

    def open(self, device: torch.device) -> OnnxNetwork:
        """The network, ready to compute.

        Raises:
            ExportError, DeviceError, UsageError: ONNX Runtime cannot load it, or not on this device.
        """
        return OnnxNetwork(self.path, device=device, output=self.output)


def read_onnx(
    path: Path, *, weights: str, options: InputOptions, output: str | None = None, known: Transform | None = None
) -> OnnxFile:
    """Look at an ONNX file and compute one image with it.

    Args:
        path: The file.
        weights: What results call it.
        options: What the user says about its input.
        output: The output to take, where there are several.
        known: Its input, where somebody else than the file says it.

    Raises:
        MissingExtraError: The extra ``onnx`` is not installed.
        UsageError: Its input is not known, or its output has to be chosen.
        WeightsError: The file is missing, damaged, no network for images, or lacks parts.
    """
    require_onnx(str(path))
    model = _parse(path)
    parts = _external_files(model, path)
    fixed = _image_size(model, path)
    own = _own_transform(model) or known
    transform = options.apply(own, fixed=fixed, name=path.name)
    chosen = _choose_output(model, path, output)
    try:
        network = OnnxNetwork(path, output=chosen)
        shape = network.shape_of(torch.zeros(1, 3, *transform.size))
    except ExportError as error:
        raise WeightsError(
            error.message, hint="check that it is complete and needs no other input", file=path
        ) from error
    if len(shape) not in (1, 3) or shape[1:] not in ((), (1, 1)):
        raise WeightsError(
            f"{path} gives no vector for an image: its output '{chosen}' is {('N', *shape)}",
            hint="needs (N, D) or (N, D, 1, 1); several outputs: choose one with --set model.output=NAME",
            file=path,
        )
    several = len(model.graph.output) > 1
    return OnnxFile(path, transform, weights, _digest(path, parts), chosen if several else None, shape[0])


def _parse(path: Path) -> Any:
    """The file as the package onnx reads it, without tensors that lie beside it."""
    import onnx
    from google.protobuf.message import DecodeError

    if not path.is_file():
        raise WeightsError(f"there is no weights file {path}", hint="check the path", file=path)
    try:
        refuse_huge(path)
        model = onnx.load(str(path), load_external_data=False)
    except (DecodeError, ValueError, OSError) as error:
        raise WeightsError(f"{path} is damaged or no ONNX file: {first_line(error)}", hint=_AGAIN, file=path) from None
    if not model.graph.node:
        raise WeightsError(f"{path} is cut short or no ONNX file: it holds no network", hint=_AGAIN, file=path)
    return model


def _external_files(model: Any, path: Path) -> list[Path]:
    """The files beside the model that hold its tensors; refuses those that are missing or lie elsewhere."""
    folder = real_path(path.parent)
    names = {entry.value for tensor in _all_tensors(model) for entry in tensor.external_data if entry.key == "location"}
    files = []
    for name in sorted(names):
        file = real_path(folder / name)
        if not file.is_relative_to(folder):
            raise WeightsError(
                f"{path} takes tensors from outside its folder: {name}",
                hint="such files are refused; save the network as one file",
                file=path,
            )
        if not file.is_file():
            raise WeightsError(
                f"{path} lacks the file that holds its tensors, {name}", hint="put it beside the network", file=path
            )
        files.append(file)
    return files


def _all_tensors(model: Any) -> Iterator[Any]:
    """Every tensor of a model, wherever it may stand."""
    yield from _tensors(model.graph)
    for function in model.functions:
        yield from _tensors_of_nodes(function.node)


def _tensors(graph: Any) -> Iterator[Any]:
    """Every tensor of a graph, those of its nodes and inner graphs too."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _tensors_of_nodes(graph.node)


def _tensors_of_nodes(nodes: Iterable[Any]) -> Iterator[Any]:
    for node in nodes:
        for attribute in node.attribute:
            yield from [attribute.t, *attribute.tensors]
            for sparse in [attribute.sparse_tensor, *attribute.sparse_tensors]:
                yield from (sparse.values, sparse.indices)
            for inner in [attribute.g, *attribute.graphs]:
                yield from _tensors(inner)


def _image_size(model: Any, path: Path) -> tuple[int, int] | None:
    """Height and width that the graph takes; None for any.

    Raises:
        WeightsError: It takes no images.
    """
    from onnx import TensorProto

    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    described = ", ".join(map(_describe, inputs)) or "nothing"
    if len(inputs) != 1:
        raise WeightsError(f"{path} is no network for images: it takes {described}", hint=_NEEDED, file=path)
    kind = inputs[0].type.tensor_type
    sizes = [dimension.dim_value if dimension.HasField("dim_value") else None for dimension in kind.shape.dim]
    if len(sizes) != 4 or sizes[1] not in (3, None) or kind.elem_type != TensorProto.FLOAT:
        raise WeightsError(f"{path} is no network for images: it takes {described}", hint=_NEEDED, file=path)
    height, width = sizes[2:]
    if (height is None) != (width is None):
        raise WeightsError(
            f"{path} fixes only one side of its images: it takes {described}",
            hint="export it with both sides fixed, or none",
            file=path,
        )
    return None if height is None or width is None else (height, width)


def _describe(value: Any) -> str:
    """``'images' float32 (N, 3, 224, 224)``."""
    from onnx import helper

    kind = value.type.tensor_type
    name = helper.tensor_dtype_to_np_dtype(kind.elem_type).name if kind.elem_type else "no tensor"
    sizes = [str(part.dim_value) if part.HasField("dim_value") else part.dim_param or "?" for part in kind.shape.dim]
    return f"'{value.name}' {name} ({', '.join(sizes)})"


def _own_transform(model: Any) -> Transform | None:
    """The input that vreid wrote into a file of its own."""
    facts = {entry.key: entry.value for entry in model.metadata_props}
    if "transform" not in facts:
        return None
    try:
        return Transform.from_values(json.loads(facts["transform"]))
    except ValueError:
        return None  # another program's fact of the same name


def _choose_output(model: Any, path: Path, chosen: str | None) -> str:
    names = [value.name for value in model.graph.output]
    if chosen is not None and chosen not in names:
        raise UsageError(f"{path.name} has no output '{chosen}'", hint=did_you_mean(chosen, names))
    if chosen is None and len(names) > 1:
        raise UsageError(
            f"{path.name} has several outputs: {', '.join(map(_describe, model.graph.output))}",
            hint=f"choose one: --set model.output={names[0]}",
        )
    return chosen or names[0]


def _digest(path: Path, parts: list[Path]) -> str:
    """SHA-256 of the files, one after the other."""
    digest = hashlib.sha256()
    for file in (path, *parts):
        with file.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()
