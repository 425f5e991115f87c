"""Options that several commands share, and the eight that every command takes."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Concatenate, ParamSpec

import typer

from vreid_cli.errors import UsageError

DATA, NETWORK, FILES, COMPUTE, COMMON = "Data", "Network", "Files", "Computing", "Every command"
#: A flag takes no value: without this its help would show a type.
FLAG = ""
#: Which run a command works on where ``--run-dir`` names none.
LATEST_RUN = "the run that extract last worked on"

P = ParamSpec("P")

#: A command's own options, ``{section: {key: value}}``; None is what was not given.
Options = Mapping[str, Mapping[str, Any]]


def auto_or_number(text: str) -> str | int:
    """``auto``, or a whole number that is not negative.

    Raises:
        typer.BadParameter: It is neither; Typer adds the option's name.
    """
    if text == "auto":
        return text
    if not text.isdecimal():
        raise typer.BadParameter(f"'{text}' is neither auto nor a whole number")
    return int(text)


Dataset = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        metavar="NAME",
        help="Layout of the data set: veri, vehicleid, veri-wild, vric, aicity, tracks (a folder per track) or "
        "csv (a table of images, or of boxes in frames). \\[veri]",
        rich_help_panel=DATA,
    ),
]
Workers = Annotated[
    str | None,
    typer.Option(
        "--workers",
        metavar="auto|N",
        parser=auto_or_number,
        help="Processes that decode images ahead; 0: none. \\[auto]",
        rich_help_panel=COMPUTE,
    ),
]
Strict = Annotated[
    bool | None,
    typer.Option(
        "--strict",
        metavar=FLAG,
        help="Stop at the first bad image instead of skipping it.",
        rich_help_panel=COMPUTE,
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="DIR",
        help="Folder of the data set, or the manifest of --dataset csv. \\[$VREID_DATA_DIR, else VeRi]",
        rich_help_panel=DATA,
    ),
]
LabelPattern = Annotated[
    str | None,
    typer.Option(
        "--label-pattern",
        metavar="REGEX",
        help="Reads labels from names: a regular expression with groups 'vehicle' and 'camera'. "
        "\\[names like 0002_c002_…]",
        rich_help_panel=DATA,
    ),
]
Arch = Annotated[
    str | None,
    typer.Option(
        "--arch",
        metavar="NAME",
        help="The network: densenet201, resnet18, alexnet, vgg16 or inception_v3. \\[densenet201]",
        rich_help_panel=NETWORK,
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(
        "--weights",
        metavar="veri|imagenet|random|FILE",
        help="Its weights: those of the paper's authors, ImageNet's, untrained, or a .pth, .pt or .safetensors "
        "file. \\[veri]",
        rich_help_panel=NETWORK,
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        "--device", metavar="auto|cpu|cuda|cuda:N|mps", help="Where to compute. \\[auto]", rich_help_panel=COMPUTE
    ),
]
Precision = Annotated[
    str | None,
    typer.Option(
        "--precision",
        metavar="fp32|tf32|bf16|fp16",
        help="Arithmetic of the forward pass. \\[fp32]",
        rich_help_panel=COMPUTE,
    ),
]
TrackUnit = Annotated[
    str | None,
    typer.Option(
        "--track-unit",
        metavar="passage|camera",
        help="A track is one passage, or all images of a vehicle by one camera. \\[passage]",
        rich_help_panel=DATA,
    ),
]
SameCamera = Annotated[
    str | None,
    typer.Option(
        "--same-camera",
        metavar="drop|keep",
        help="Leave out gallery items of the query's own vehicle by the query's own camera (junk), or keep them. "
        "\\[drop]",
    ),
]
Force = Annotated[
    bool | None,
    typer.Option(
        "--force", metavar=FLAG, help="Replace a file that is there and was made otherwise.", rich_help_panel=FILES
    ),
]


@dataclass(frozen=True)
class Common:
    """The options that every command takes, as given."""

    config: str | None
    run_dir: Path | None
    assignments: tuple[str, ...]
    seed: int | None
    show_config: bool
    quiet: bool
    verbose: bool
    json: bool


def _common_parameters(default_run: str) -> list[inspect.Parameter]:
    def option(*names: str, help_text: str, **more: Any) -> Any:
        return typer.Option(*names, help=help_text, rich_help_panel=COMMON, show_default=False, **more)

    config = option("--config", metavar="NAME|FILE.toml", help_text="A preset, or a file instead of ./vreid.toml.")
    run_dir = option("--run-dir", metavar="DIR", help_text=f"The run directory. \\[{default_run}]")
    assign = option("--set", metavar="SECTION.KEY=VALUE", help_text="Any setting of --show-config; may be repeated.")
    seed = option("--seed", metavar="N", min=0, help_text="Seed of everything random. \\[0]")
    show = option("--show-config", metavar=FLAG, help_text="Print the settings and where each came from, and stop.")
    quiet = option("--quiet", metavar=FLAG, help_text="No progress and no notes: warnings, errors and results only.")
    verbose = option("--verbose", metavar=FLAG, help_text="More about what happens.")
    json = option("--json", metavar=FLAG, help_text="Print the result, or the error, as one JSON object.")
    annotations: dict[str, tuple[Any, Any]] = {
        "config": (Annotated[str | None, config], None),
        "run_dir": (Annotated[Path | None, run_dir], None),
        "assignments": (Annotated[list[str] | None, assign], None),
        "seed": (Annotated[int | None, seed], None),
        "show_config": (Annotated[bool, show], False),
        "quiet": (Annotated[bool, quiet], False),
        "verbose": (Annotated[bool, verbose], False),
        "json": (Annotated[bool, json], False),
    }
    keyword = inspect.Parameter.KEYWORD_ONLY
    return [
        inspect.Parameter(name, keyword, default=default, annotation=annotation)
        for name, (annotation, default) in annotations.items()
    ]


def with_common(
    command: Callable[Concatenate[Common, P], None], *, default_run: str = LATEST_RUN
) -> Callable[..., None]:
    """Add the common options to a command's own; it receives them as its first argument.

    Args:
        command: The command.
        default_run: Which run it works on without ``--run-dir``, for its help.
    """
    signature = inspect.signature(command, eval_str=True)
    own = list(signature.parameters.values())[1:]
    common = _common_parameters(default_run)

    @functools.wraps(command)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> None:
        values: dict[str, Any] = {parameter.name: kwargs.pop(parameter.name) for parameter in common}
        values["assignments"] = tuple(values["assignments"] or ())
        command(Common(**values), *args, **kwargs)

    parameters = [*own, *common]
    wrapper.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return wrapper


def split_list(values: Iterable[str] | None, *, option: str) -> list[str] | None:
    """Options that may be repeated or comma-separated, as one list; None if none was given.

    Raises:
        UsageError: The option was given, but names nothing.
    """
    if values is None:
        return None
    given = list(values)
    parts = [part.strip() for value in given for part in value.split(",") if part.strip()]
    if given and not parts:
        raise UsageError(f"{option} '{','.join(given)}' names nothing", hint=f"leave {option} out for its default")
    return parts or None


def split_numbers(values: Iterable[str] | None, *, option: str) -> list[int] | None:
    """The same for whole numbers.

    Raises:
        UsageError: One is no whole number, or there is none.
    """
    parts = split_list(values, option=option)
    if parts is None:
        return None
    wrong = [part for part in parts if not part.isdecimal()]
    if wrong:
        raise UsageError(f"{option} {','.join(parts)}: '{wrong[0]}' is no whole number", hint=f"as in {option} 1,5,10")
    return [int(part) for part in parts]


def given(**sections: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The options that were given, by section; what is None was not."""
    kept = {name: {k: _plain(v) for k, v in table.items() if v is not None} for name, table in sections.items()}
    return {name: table for name, table in kept.items() if table}


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(entry) for entry in value]
    return value


def typed_command() -> tuple[str, ...]:
    """The command as it was typed, for the history."""
    return ("vreid", *sys.argv[1:])
