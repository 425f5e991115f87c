"""Names that come from data, where they could act: in a terminal, and in a spreadsheet."""

from __future__ import annotations

import re
from typing import TypeVar

T = TypeVar("T")

#: All that moves the cursor, colours, rings or reverses the reading direction; but for tabs and ends of lines.
_ACTING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def for_terminal(text: str) -> str:
    r"""Text that a terminal only shows: control characters are spelled out.

    Examples:
        >>> print(for_terminal("track \x1b[2Jgone"))
        track \x1b[2Jgone
    """
    return _ACTING.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def for_spreadsheet(cell: T) -> T | str:
    """A cell of a CSV that a spreadsheet takes for text: one that it would compute gets an apostrophe before it.

    Examples:
        >>> for_spreadsheet("=HYPERLINK(1)"), for_spreadsheet("c001"), for_spreadsheet(-1.5)
        ("'=HYPERLINK(1)", 'c001', -1.5)
        >>> from_spreadsheet("'=HYPERLINK(1)")
        '=HYPERLINK(1)'
    """
    return f"'{cell}" if isinstance(cell, str) and _computed(cell) else cell


def from_spreadsheet(cell: str) -> str:
    """The text that :func:`for_spreadsheet` made a cell of."""
    return cell[1:] if cell[:1] == "'" and _computed(cell[1:]) else cell


def _computed(text: str) -> bool:
    return text.lstrip("'")[:1] in tuple("=+-@\t\r")
