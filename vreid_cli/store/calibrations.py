"""Calibrations as JSON files: those of runs, and those that ship beside a network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from vreid_cli.errors import StoreError
from vreid_cli.runtime.files import read_json_object, write_json
from vreid_cli.types.calibrations import Calibration

_SCHEMA = 1
#: Folder of the calibrations that ship beside a network.
SHIPPED = "calibrations"


def write_calibration(path: Path, calibration: Calibration) -> None:
    """Write a calibration.

    Raises:
        StoreError: The file cannot be written.
    """
    content = calibration.to_dict()
    del content["source"]  # a file knows where it is
    write_json(path, {"schema": _SCHEMA, **content})


def read_calibration(path: Path) -> Calibration:
    """Read a calibration, whose ``source`` is the path.

    Raises:
        StoreError: The file is missing or damaged, or holds no calibration.

    Examples:
        >>> from vreid_cli.types.calibrations import FittedOn
        >>> fitted = FittedOn(dataset=None, vehicles=10, digest="", queries=10, same=10, different=90)
        >>> written = Calibration(distances=(0.0, 1.0), log_ratios=(5.0, -5.0), expected=1.0, fitted_on=fitted)
        >>> write_calibration(Path("mine.json"), written)
        >>> read_calibration(Path("mine.json")) == written
        True
    """
    content = read_json_object(path)
    schema = content.pop("schema", None)
    hint = "make it again with vreid calibrate"
    if schema != _SCHEMA:
        raise StoreError(f"{path} is no calibration that is known: its schema is {schema}", hint=hint, file=path)
    try:
        return replace(Calibration.from_dict(content), source=str(path))
    except ValueError as error:
        raise StoreError(f"{path} is no calibration: {error}", hint=hint, file=path) from None


def calibrations_in(path: Path) -> list[Path]:
    """The files that a path means: itself, or those in a folder.

    Raises:
        StoreError: There is none.
    """
    if not path.is_dir():
        return [path]
    found = sorted(path.glob("*.json"))
    if not found:
        raise StoreError(f"there are no calibrations in {path}", hint="make one with vreid calibrate", file=path)
    return found


def shipped_calibrations(name: str) -> list[Path]:
    """The files of this name that ship beside a network, each bound to its network's weights."""
    return sorted((Path(__file__).parents[1] / "models").glob(f"*/{SHIPPED}/{name}.json"))
