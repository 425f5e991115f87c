"""Which network with which weights, and how it is exported."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Annotated

from pydantic import Field

from vreid_cli.data.layouts import LAYOUTS
from vreid_cli.models.backbones import ArchitectureNames
from vreid_cli.models.inputs import InputOptions
from vreid_cli.models.sources import HUB, SOURCES, default_weights
from vreid_cli.runtime.options import LocalPath, Location
from vreid_cli.store.formats import FEATURE_FORMATS, endings
from vreid_cli.types.options import FILES, NETWORK, Choice, Options, option

_DEFAULT = "densenet201"
#: Layouts of one's own images.
_SMALL_FIRST = [layout.name for layout in LAYOUTS.values() if layout.weights == "small"]
_NAMED = ", ".join(f"{source.help} ({name})" for name, source in SOURCES.items())


class DownloadOptions(Options):
    """Where downloaded weights are kept, and where they come from."""

    cache_dir: LocalPath | None = option(
        None, "Folder that downloads are kept in.", metavar="DIR", panel=NETWORK, shown="the user's cache folder"
    )
    weights_url: str | None = option(
        None, "Where else to download the weights veri from.", metavar="URL", panel=NETWORK
    )
    weights_blob: str | None = option(
        None, "The git blob id that the download must have.", metavar="SHA1", panel=NETWORK
    )
    download_timeout: Annotated[float, Field(gt=0, allow_inf_nan=False)] = option(
        30.0, "Seconds to wait for a server.", metavar="SECONDS", panel=NETWORK
    )


class ModelOptions(DownloadOptions):
    """``[model]``: the network and its weights."""

    arch: Annotated[str, Choice(ArchitectureNames())] = option(
        _DEFAULT,
        f"The network: {', '.join(ArchitectureNames())}.",
        metavar="NAME",
        panel=NETWORK,
        shown=f"the weights' own, else {_DEFAULT}",
    )
    weights: str | None = option(
        None,
        f"Its weights: {_NAMED}, a file (.safetensors, .pth, .pt, .onnx), or {HUB}owner/name.",
        metavar="|".join([*SOURCES, "FILE"]),
        panel=NETWORK,
        shown=f"{default_weights(_DEFAULT)}; for {', '.join(_SMALL_FIRST)} small",
    )
    output: str | None = option(None, "The output of an ONNX file that has several.", metavar="NAME", panel=NETWORK)
    input: InputOptions = InputOptions()


class _WrittenForms(Collection[str]):
    """Names of the feature formats that can be written: their endings without the dot."""

    def _now(self) -> list[str]:
        return [ending.removeprefix(".") for ending in endings(FEATURE_FORMATS, read=False)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._now())

    def __len__(self) -> int:
        return len(self._now())

    def __contains__(self, name: object) -> bool:
        return name in self._now()


class ExportOptions(Options):
    """``[export]``: where features or the model go, and in which form."""

    output: Location | None = option(
        None, "Where to write.", flag="--output -o", metavar="PATH", panel=FILES, shown="exports/ of the run"
    )
    format: Annotated[str, Choice(_WrittenForms())] = option(
        "json", "The JSON of the paper's code, NumPy arrays, or a LanceDB database.", flag="--format --to"
    )
    to_hub_folder: LocalPath | None = option(
        None,
        "Write a folder as the Hugging Face hub has it instead: weights, configuration and model card.",
        metavar="DIR",
        panel=FILES,
    )
    half: bool = option(False, "Write kernels and matrices of that folder as float16: half the size.", panel=FILES)
    force: bool = option(False, "Replace a file that is there and was made otherwise.", panel=FILES)
