"""Labels read from names."""

from __future__ import annotations

import re
from dataclasses import dataclass

from vreid_cli.errors import UsageError

#: VeRi's naming: vehicle, camera, and whatever follows (passage or frame).
DEFAULT_PATTERN = r"^(?P<vehicle>\d{4})_(?P<camera>c\d{3})(?:_(?:(?P<frame>\d+)(?=_|\.))?|$)"

_FRAME_DIGITS = 18


@dataclass(frozen=True)
class NameLabels:
    """What a name says: each part None where it says nothing."""

    vehicle_id: str | None = None
    camera_id: str | None = None
    frame: int | None = None


@dataclass(frozen=True)
class LabelPattern:
    """A regular expression with the groups ``vehicle``, ``camera`` and, if wanted, ``frame``."""

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
            raise UsageError(f"--label-pattern {pattern}: no valid regular expression: {error}") from None
        if "vehicle" not in expression.groupindex:
            raise UsageError(
                f"--label-pattern {pattern}: it has no group named 'vehicle'",
                hint=r"as in '^(?P<vehicle>[a-z]+_\d+)_(?P<camera>cam\d)'",
            )
        return cls(expression)

    def vehicle_and_camera(self, name: str) -> tuple[str | None, str | None]:
        """The two labels in a name that files of features and rankings need."""
        labels = self.read(name)
        return labels.vehicle_id, labels.camera_id

    def read(self, name: str) -> NameLabels:
        """The labels in a name; all None if the pattern does not occur in it."""
        match = self.expression.search(name)
        if match is None:
            return NameLabels()
        groups = match.groupdict()
        frame = groups.get("frame") or ""
        # Longer numbers would not fit the 64 bits that a store gives them.
        number = int(frame) if frame.isdecimal() and len(frame) <= _FRAME_DIGITS else None
        return NameLabels(groups["vehicle"] or None, groups.get("camera") or None, number)
