"""Marks that a person gave to matches: the CSV that a report page exports."""

from __future__ import annotations

import csv
from pathlib import Path

from vreid_cli.errors import DataError, did_you_mean, first_line
from vreid_cli.runtime.files import refuse_huge
from vreid_cli.runtime.objects import as_path
from vreid_cli.types.escaping import from_spreadsheet
from vreid_cli.types.truth import ReviewedPairs

COLUMNS = ("query_id", "gallery_id", "mark")
MARKS = {"same": True, "different": False, "unsure": None}


def read_review(path: str | Path) -> ReviewedPairs:
    r"""Read marks: columns ``query_id``, ``gallery_id`` and ``mark``, which is ``same``, ``different`` or ``unsure``.

    Raises:
        DataError: The file is missing, no such table, holds another mark, or marks a pair in two ways.

    Examples:
        >>> _ = Path("reviewed.csv").write_text("query_id,gallery_id,mark\nq1,g1,same\nq1,g2,different\n")
        >>> read_review("reviewed.csv").marks
        {('q1', 'g1'): True, ('q1', 'g2'): False}
    """
    path = as_path(path)
    marks: dict[tuple[str, str], bool | None] = {}
    try:
        refuse_huge(path)
        with path.open(newline="", encoding="utf-8-sig") as file:
            head = file.readline()
            file.seek(0)
            # Spreadsheets of some countries write semicolons.
            rows = csv.DictReader(file, delimiter=";" if ";" in head and "," not in head else ",", strict=True)
            lacking = [name for name in COLUMNS if name not in (rows.fieldnames or ())]
            if lacking:
                hint = "a report page exports such a table; the first line names its columns"
                raise DataError(f"{path} has no column '{lacking[0]}'", hint=hint, file=path)
            for row in rows:
                _add(marks, row, f"{path}, line {rows.line_num}", path)
    except FileNotFoundError:
        raise DataError(f"there is no file {path}", hint="a report page exports it", file=path) from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a table: {first_line(error)}", file=path) from None
    if not marks:
        raise DataError(f"{path} marks nothing", hint="mark matches in a report page, then export", file=path)
    decided = {pair: mark for pair, mark in marks.items() if mark is not None}
    return ReviewedPairs(path.name, decided, unsure=len(marks) - len(decided))


def _add(marks: dict[tuple[str, str], bool | None], row: dict[str, str | None], where: str, path: Path) -> None:
    query, item, word = (row[name] for name in COLUMNS)
    if not query or not item or word is None:
        raise DataError(f"{where}: a query, a gallery item and a mark are needed", file=path)
    query, item = from_spreadsheet(query), from_spreadsheet(item)
    if word.strip().lower() not in MARKS:
        raise DataError(f"{where}: unknown mark '{word}'", hint=did_you_mean(word, MARKS), file=path)
    mark = MARKS[word.strip().lower()]
    if marks.setdefault((query, item), mark) is not mark:
        raise DataError(f"{where}: {query} and {item} were marked otherwise before", hint="keep one line", file=path)
