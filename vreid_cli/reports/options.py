"""What is shown of a ranking."""

from __future__ import annotations

from pathlib import Path

from vreid_cli.types.options import Options, Positive


class ShowOptions(Options):
    """``[show]``: which queries, how many of their nearest, and where to draw them."""

    queries: tuple[str, ...] = ()
    ranking: Path | None = None
    top: Positive = 5
    max_queries: Positive = 8
    max_images: Positive = 6
    output: Path | None = None
