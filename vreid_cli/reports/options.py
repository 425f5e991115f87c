"""What is shown of a ranking."""

from __future__ import annotations

from vreid_cli.types.options import Options, Positive, option


class ShowOptions(Options):
    """``[show]``: how much is shown of a ranking.

    Examples:
        >>> ShowOptions(top=3).max_queries
        8
    """

    top: Positive = option(5, "How many of the nearest.")
    max_queries: Positive = option(8, "How many queries, where none is named.")
    max_images: Positive = option(6, "How many images of a track.")
    max_pair_images: Positive = option(40, "How many images of each track the view of a match draws.")
