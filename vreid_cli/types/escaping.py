"""Names that come from data, where they could act: in a terminal."""

from __future__ import annotations

import re

#: All that moves the cursor, colours, rings or reverses the reading direction; but for tabs and ends of lines.
_ACTING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def for_terminal(text: str) -> str:
    r"""Text that a terminal only shows: control characters are spelled out.

    Examples:
        >>> print(for_terminal("track \x1b[2Jgone"))
        track \x1b[2Jgone
    """
    return _ACTING.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)
