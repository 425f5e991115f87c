"""Ground truth that a data set states itself, in the place of what labels say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from vreid_cli.types.truth import ImageTruth, JudgedRows

_EXAMPLES = 3


def truth_of_tracks(truth: ImageTruth, track_of: Mapping[str, str], *, query_tracks: bool) -> ImageTruth:
    """What is said of images, said of the tracks that hold them: a track is right if any of its images is.

    Args:
        truth: What is said of images.
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

    return ImageTruth(truth.source, frozenset(track_of.values()), lift(truth.good), lift(truth.junk))


class StatedTruth:
    """Judges rows by a data set's own lists, and notes where labels contradict them.

    Args:
        truth: What the data set says.

    Attributes:
        contradictions: Rows about which labels and lists differ.
        examples: Some of them, in words.
        missing: Right items that the lists, being cut, do not hold.
    """

    def __init__(self, truth: ImageTruth) -> None:
        self._truth = truth
        self.contradictions = 0
        self.examples: list[str] = []
        self.missing = 0

    def judge(self, rows: JudgedRows) -> JudgedRows:
        """The rows by the lists; queries and items that these do not know keep what labels say."""
        assert rows.gallery_ids is not None
        same_vehicle, same_camera = rows.same_vehicle.copy(), rows.same_camera.copy()
        starts = np.searchsorted(rows.query, np.arange(len(rows.query_ids) + 1))
        for index, query in enumerate(rows.query_ids):
            good, junk = self._truth.good.get(query), self._truth.junk.get(query)
            if good is None or junk is None:
                continue
            mine = slice(starts[index], starts[index + 1])
            names = rows.gallery_ids[mine]
            known = np.fromiter((name in self._truth.gallery for name in names), bool, len(names))
            is_good, is_junk = (
                np.fromiter((name in part for name in names), bool, len(names)) for part in (good, junk)
            )
            labelled_junk = rows.same_vehicle[mine] & rows.same_camera[mine]
            labelled_good = rows.same_vehicle[mine] & ~labelled_junk
            # The query itself is left out anyway, whatever the lists say of it.
            differ = known & ~rows.is_self[mine] & ((is_good != labelled_good) | (is_junk != labelled_junk))
            self._note(query, names[differ])
            self.missing += len(good & self._truth.gallery) - int(is_good.sum())
            same_vehicle[mine] = np.where(known, is_good | is_junk, rows.same_vehicle[mine])
            same_camera[mine] = np.where(known, is_junk, rows.same_camera[mine])
        return replace(rows, same_vehicle=same_vehicle, same_camera=same_camera)

    def _note(self, query: str, names: np.ndarray) -> None:
        self.contradictions += len(names)
        room = _EXAMPLES - len(self.examples)
        self.examples += [f"{query} and {name}" for name in names[: max(0, room)]]

    @property
    def source(self) -> str:
        """The files that decide."""
        return self._truth.source

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to tell of contradictions and of what is missing."""
        told = []
        if self.contradictions:
            told.append(
                f"{self._truth.source} contradict the labels about {self.contradictions:,} pairs, "
                f"and were followed: {', '.join(self.examples)}"
            )
        if self.missing:
            told.append(
                f"{self.missing:,} items that {self._truth.source} call right are not listed, so the scores leave "
                "them out: rank without --top-k, --threshold and --cameras other"
            )
        return tuple(told)
