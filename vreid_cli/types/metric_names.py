"""How metrics are named: an aggregation around a distance, as ``meanMCD50``."""

from __future__ import annotations

import re

#: A distance begins with a capital and ends with a letter; an aggregation is lower-case letters and maybe digits.
_NAME = re.compile(r"([a-z]*)([A-Z](?:\w*[A-Za-z])?)(\d*)")


def join_metric_name(distance: str | None, aggregation: str | None) -> str | None:
    """The metric's name; the digits of the aggregation come last.

    Example:
        >>> join_metric_name("MCD", "mean50"), join_metric_name("RSCR", None)
        ('meanMCD50', 'RSCR')
    """
    if distance is None or not aggregation:
        return distance
    words = aggregation.rstrip("0123456789")
    return f"{words}{distance}{aggregation[len(words) :]}"


def split_metric_name(name: str | None) -> tuple[str | None, str | None]:
    """Distance and aggregation of a metric; the aggregation is None for a bare distance or a foreign name.

    Example:
        >>> split_metric_name("meanMCD50"), split_metric_name("RSCR")
        (('MCD', 'mean50'), ('RSCR', None))
    """
    found = _NAME.fullmatch(name or "")
    if not found:
        return name, None
    words, distance, digits = found.groups()
    return (distance, f"{words}{digits}") if words else (name, None)
