"""What is known about cameras and the ways between them: clocks in TOML, travel times in CSV."""

from __future__ import annotations

import csv
import math
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from vreid_cli.data.listing import unreadable
from vreid_cli.errors import DataError, did_you_mean
from vreid_cli.runtime.files import read_text, refuse_huge
from vreid_cli.types.amounts import amount
from vreid_cli.types.identities import Clock, TravelWindow

#: The clocks that lie beside the data.
CLOCKS = "cameras.toml"
_KEYS = ("fps", "start")
_COLUMNS = ("camera_a", "camera_b", "min_s", "max_s")


def read_clocks(
    path: Path, cameras: Iterable[str], *, stated: Mapping[str, Clock] | None = None
) -> tuple[dict[str, Clock], list[str]]:
    """Frame rate and start of cameras.

    The file holds ``fps`` and ``start`` for all cameras, and a table ``[cameras.NAME]`` for each that differs.

    Args:
        path: The file.
        cameras: Cameras that there are.
        stated: What the recordings say themselves; the file counts more.

    Returns:
        The clock of each camera whose frame rate is known, and warnings.

    Raises:
        DataError: The file is missing, no TOML, or holds something else.

    Examples:
        >>> path = Path("cameras.toml")
        >>> _ = path.write_text("fps = 10" + chr(10) + "[cameras.c002]" + chr(10) + "start = 1.5")
        >>> read_clocks(path, ["c001", "c002"])[0]["c002"]
        Clock(fps=10.0, start=1.5)
    """
    try:
        values = tomllib.loads(read_text(path))
    except OSError as error:
        raise unreadable(path, error) from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is no valid TOML: {error}", hint="as in: fps = 10", file=path) from None
    tables = values.pop("cameras", {})
    if not isinstance(tables, Mapping) or not all(isinstance(table, Mapping) for table in tables.values()):
        hint = "write [cameras.c001] above fps = 10"
        raise DataError(f"{path}: 'cameras' holds something that is no table", hint=hint, file=path)
    common = _numbers(path, values, where="")
    own = {str(name): _numbers(path, table, where=f"cameras.{name}.") for name, table in tables.items()}
    known = list(cameras)
    unknown = [name for name in own if name not in known]
    warnings = [f"{path.name}: no track is of these cameras: {', '.join(unknown)}"] if unknown else []
    before = {camera: {"fps": clock.fps} for camera, clock in (stated or {}).items()}
    merged = {camera: {**before.get(camera, {}), **common, **own.get(camera, {})} for camera in known}
    return {camera: Clock(**entry) for camera, entry in merged.items() if "fps" in entry}, warnings


def _numbers(path: Path, table: Mapping[str, Any], *, where: str) -> dict[str, float]:
    for key, value in table.items():
        if key not in _KEYS:
            raise DataError(f"{path}: unknown key '{where}{key}'", hint=did_you_mean(key, _KEYS), file=path)
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not number or (key == "fps" and value <= 0):
            needed = "a number above 0" if key == "fps" else "a number of seconds"
            raise DataError(f"{path}: {where}{key} = {value!r}: needs {needed}", file=path)
    return {key: float(value) for key, value in table.items()}


def read_travel_times(path: Path) -> list[TravelWindow]:
    """Travel times between cameras, a CSV with the columns ``camera_a, camera_b, min_s, max_s``.

    Raises:
        DataError: The file is missing, or a line is not what it should be.

    Examples:
        >>> path = Path("travel.csv")
        >>> _ = path.write_text("camera_a,camera_b,min_s,max_s" + chr(10) + "c001,c002,5,60")
        >>> read_travel_times(path)[0].max_s
        60.0
    """
    windows: list[TravelWindow] = []
    try:
        refuse_huge(path)
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            names = [name.strip() for name in next(reader, [])]
            if sorted(names) != sorted(_COLUMNS):
                raise DataError(
                    f"{path}, line 1: the columns are '{', '.join(names)}'",
                    hint=f"needed: {','.join(_COLUMNS)}",
                    file=path,
                )
            rows = (cells for cells in reader if any(cell.strip() for cell in cells))
            windows += [_window(path, reader.line_num, dict(zip(names, cells, strict=False))) for cells in rows]
    except OSError as error:
        raise unreadable(path, error) from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is no CSV in UTF-8: {error}", file=path) from None
    return windows


def _window(path: Path, line: int, cells: Mapping[str, str]) -> TravelWindow:
    source = f"{path}, line {line}"
    if len(cells) < len(_COLUMNS):
        raise DataError(
            f"{source}: {amount(len(cells), 'cell')}, needs {len(_COLUMNS)}", hint=",".join(_COLUMNS), file=path
        )
    seconds = []
    for name in ("min_s", "max_s"):
        try:
            seconds.append(float(cells[name]))
        except ValueError:
            raise DataError(f"{source}: {name} '{cells[name]}' is no number of seconds", file=path) from None
    if any(map(math.isnan, seconds)):
        raise DataError(f"{source}: a time is not a number", file=path)
    return TravelWindow(cells["camera_a"].strip(), cells["camera_b"].strip(), seconds[0], seconds[1], source)
