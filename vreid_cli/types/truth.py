"""How rankings are counted, and ground truth that a data set states itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

SameCamera = Literal["drop", "keep"]
ApRule = Literal["rectangle", "trapezoid"]
WithoutPositive = Literal["skip", "zero"]


@dataclass(frozen=True)
class GroundTruth:
    """What a data set says of each query, in the place of what labels say.

    Attributes:
        source: The files that say it.
        gallery: The gallery items that they are about.
        good: For each query, those of its vehicle by other cameras.
        junk: For each query, those that are left out.

    Examples:
        >>> truth = GroundTruth("gt.txt", frozenset({"a.jpg", "b.jpg"}), {"a.jpg": {"b.jpg"}}, {"a.jpg": {"a.jpg"}})
        >>> dict(truth.of_tracks({"a.jpg": "t1", "b.jpg": "t2"}, query_tracks=True).good)
        {'t1': frozenset({'t2'})}
    """

    source: str
    gallery: frozenset[str]
    good: Mapping[str, frozenset[str]]
    junk: Mapping[str, frozenset[str]]

    def of_tracks(self, track_of: Mapping[str, str], *, query_tracks: bool) -> GroundTruth:
        """What is said of images, said of the tracks that hold them: a track is right if any of its images is.

        Args:
            track_of: Track of each gallery image.
            query_tracks: Whether the queries are tracks too; else they stay images.
        """

        def lift(rows: Mapping[str, frozenset[str]]) -> dict[str, frozenset[str]]:
            lifted: dict[str, set[str]] = {}
            for image, names in rows.items():
                query = track_of.get(image) if query_tracks else image
                if query is not None:
                    lifted.setdefault(query, set()).update(track_of[name] for name in names if name in track_of)
            return {query: frozenset(names) for query, names in lifted.items()}

        return GroundTruth(self.source, frozenset(track_of.values()), lift(self.good), lift(self.junk))


@dataclass(frozen=True)
class ReviewedPairs:
    """Pairs of a query and a gallery item that a person looked at.

    Attributes:
        source: The file that holds them.
        marks: For each pair whether both show the same vehicle.
        unsure: How many more pairs were marked as unsure.

    Examples:
        >>> ReviewedPairs("reviewed.csv", {("q1", "g1"): True, ("q1", "g2"): False}).unsure
        0
    """

    source: str
    marks: Mapping[tuple[str, str], bool]
    unsure: int = 0
