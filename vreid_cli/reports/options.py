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
    page_queries: Positive = option(2000, "How many queries of a page, where none is named.")
    worst: Positive | None = option(None, "Only the queries of the lowest AP, so many.")
    best: Positive | None = option(None, "Only the queries of the highest AP, so many.")

    @property
    def by_score(self) -> bool:
        """Whether queries are chosen by their AP."""
        return self.worst is not None or self.best is not None
