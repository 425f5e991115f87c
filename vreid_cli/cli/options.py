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

_DATA, _MODEL, _COMPUTE, _COMMON = "Data", "Network", "Computing", "Every command"

P = ParamSpec("P")

#: A command's own options, ``{section: {key: value}}``; None is what was not given.
Options = Mapping[str, Mapping[str, Any]]


def auto_or_number(text: str) -> str | int:
    """``auto``, or a whole number that is not negative."""
    if text == "auto":
        return text
    if not text.isdecimal():
        raise UsageError(f"'{text}' is neither auto nor a whole number")
    return int(text)


DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Folder of the data set. \\[$VREID_DATA_DIR, else VeRi]", rich_help_panel=_DATA),
]
LabelPattern = Annotated[
    str | None,
    typer.Option(
        "--label-pattern",
        metavar="REGEX",
        help="Reads labels from names: a regular expression with groups 'vehicle' and 'camera'. "
        "\\[names like 0002_c002_…]",
        rich_help_panel=_DATA,
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        "--device", metavar="auto|cpu|cuda|cuda:N|mps", help="Where to compute. \\[auto]", rich_help_panel=_COMPUTE
    ),
]
Force = Annotated[
    bool | None, typer.Option("--force", help="Replace an existing file that was made otherwise.", show_default=False)
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


def _common_parameters() -> list[inspect.Parameter]:
    def option(*names: str, help_text: str, **more: Any) -> Any:
        return typer.Option(*names, help=help_text, rich_help_panel=_COMMON, show_default=False, **more)

    config = option("--config", metavar="NAME|FILE.toml", help_text="A preset, or a file instead of ./vreid.toml.")
    run_dir = option("--run-dir", metavar="DIR", help_text="The run directory. \\[the run that extract last worked on]")
    assign = option("--set", metavar="SECTION.KEY=VALUE", help_text="Any setting; may be repeated.")
    seed = option("--seed", min=0, help_text="Seed of everything random. \\[0]")
    show = option("--show-config", help_text="Print the settings and where each came from, and stop.")
    quiet = option("--quiet", help_text="Warnings and errors only.")
    verbose = option("--verbose", help_text="More of what happens.")
    json = option("--json", help_text="Print one JSON object instead of text.")
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


def with_common(command: Callable[Concatenate[Common, P], None]) -> Callable[..., None]:
    """Add the common options to a command's own; it receives them as its first argument."""
    signature = inspect.signature(command, eval_str=True)
    own = list(signature.parameters.values())[1:]
    common = _common_parameters()

    @functools.wraps(command)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> None:
        values: dict[str, Any] = {parameter.name: kwargs.pop(parameter.name) for parameter in common}
        values["assignments"] = tuple(values["assignments"] or ())
        command(Common(**values), *args, **kwargs)

    parameters = [*own, *common]
    wrapper.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return wrapper


def split_list(values: Iterable[str] | None) -> list[str] | None:
    """Options that may be repeated or comma-separated, as one list; None if none was given."""
    if values is None:
        return None
    return [part.strip() for value in values for part in value.split(",") if part.strip()] or None


def split_numbers(values: Iterable[str] | None, *, option: str) -> list[int] | None:
    """The same for whole numbers.

    Raises:
        UsageError: One is no whole number.
    """
    parts = split_list(values)
    if parts is None:
        return None
    wrong = [part for part in parts if not part.isdecimal()]
    if wrong:
        raise UsageError(f"{option} {','.join(parts)}: '{wrong[0]}' is no whole number")
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
