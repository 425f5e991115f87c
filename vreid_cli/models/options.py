"""Which network with which weights, and how it is exported."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from vreid_cli.models.backbones import BACKBONES
from vreid_cli.models.sources import SOURCES
from vreid_cli.types.options import Options, choice, option

Architecture = Annotated[str, choice(BACKBONES)]


class DownloadOptions(Options):
    """Where downloaded weights are kept, and where they come from."""

    cache_dir: Path | None = option(None, "Folder of downloaded weights and exports. [the user's cache folder]")
    weights_url: str | None = option(None, "Address of the authors' checkpoint, as on a mirror.")
    weights_blob: str | None = option(None, "Git blob id of the authors' checkpoint.")
    download_timeout: Annotated[float, Field(gt=0, allow_inf_nan=False)] = option(
        30.0, "Seconds to wait for the server."
    )


class ModelOptions(DownloadOptions):
    """``[model]``: the network and its weights."""

    arch: Architecture = option("densenet201", f"The network: {', '.join(BACKBONES)}.", metavar="NAME")
    weights: str | None = option(
        None,
        f"Its weights: {'; '.join(f'{name}, {source.help}' for name, source in SOURCES.items())}; or a .pth, .pt or "
        ".safetensors file.",
        metavar="|".join([*SOURCES, "FILE"]),
    )


class ExportOptions(Options):
    """``[export]``: where features or the model go, and in which form."""

    output: Path | None = None
    format: Literal["json", "npz"] = "json"
    force: bool = False
