"""Labels read from names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from vreid_cli.errors import UsageError

#: VeRi's naming: vehicle, camera, and whatever follows (passage or frame).
DEFAULT_PATTERN = r"^(?P<vehicle>\d{4})_(?P<camera>c\d{3})(?:_(?:(?P<frame>\d+)(?=_|\.))?|$)"
_EXAMPLE = r"as in '^(?P<vehicle>[a-z]+_\d+)_(?P<camera>cam\d)'"

#: Longer numbers would not fit the 64 bits that a store gives them.
_FRAME_DIGITS = 18


class NameLabels(NamedTuple):
    """What a name says: each part None where it says nothing."""

    vehicle_id: str | None = None
    camera_id: str | None = None
    frame: int | None = None


@dataclass(frozen=True)
class LabelPattern:
    r"""A regular expression with the groups ``vehicle`` and, if wanted, ``camera`` and ``frame``.

    Examples:
        >>> LabelPattern.compile(None).read("0002_c003_00030600_0.jpg")
        NameLabels(vehicle_id='0002', camera_id='c003', frame=30600)
        >>> LabelPattern.compile(r"(?P<vehicle>[a-z]+)_cam(?P<camera>\d)").read("red_cam2.jpg")
        NameLabels(vehicle_id='red', camera_id='2', frame=None)
    """

    expression: re.Pattern[str]

    @classmethod
    def compile(cls, pattern: str | None) -> LabelPattern:
        """Compile ``--label-pattern``; None means VeRi's naming.

        Raises:
            UsageError: No valid expression, or without a group ``vehicle``.
        """
        try:
            expression = re.compile(pattern or DEFAULT_PATTERN)
        except re.error as error:
            message = f"--label-pattern {pattern}: no valid regular expression: {error}"
            raise UsageError(message, hint=_EXAMPLE) from None
        if "vehicle" not in expression.groupindex:
            raise UsageError(f"--label-pattern {pattern}: it has no group named 'vehicle'", hint=_EXAMPLE)
        return cls(expression)

    def read(self, name: str) -> NameLabels:
        """The labels in a name; all None if the pattern does not occur in it."""
        match = self.expression.search(name)
        if match is None:
            return NameLabels()
        groups = match.groupdict()
        return NameLabels(
            groups["vehicle"] or None, groups.get("camera") or None, parse_frame(groups.get("frame") or "")
        )


def parse_frame(text: str) -> int | None:
    """The number of a frame; None where the text is no whole number, or one that no store takes.

    Examples:
        >>> parse_frame("00030600"), parse_frame("1.5")
        (30600, None)
    """
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _FRAME_DIGITS else None
