"""Which images and features belong to the items of a ranking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vreid_cli.data.boxes import Crop, locate_image
from vreid_cli.data.decoding import is_image
from vreid_cli.errors import DataError
from vreid_cli.ranking.tracks import group_tracks, image_items
from vreid_cli.runtime.objects import as_path
from vreid_cli.types.amounts import amount
from vreid_cli.types.arrays import Float32Array, Int64Array
from vreid_cli.types.features import FeatureSet, number_images
from vreid_cli.types.rankings import RankingFacts

#: Where images lie: features that say it, or a folder.
ImageSource = FeatureSet | str | Path


@dataclass(frozen=True, eq=False)
class ReportSide:
    """The queries or the gallery of a ranking, with what can be shown of them.

    Attributes:
        source: What messages call it.
        features: The features; None where only the folder of the images is known.
        rows: The rows of each item's images in the features.
        root: The folder of the images; None where it is unknown.
    """

    source: str
    features: FeatureSet | None
    rows: Mapping[str, Int64Array]
    root: Path | None

    def images(self, name: str) -> list[Path | Crop]:
        """The images of an item in the order of its features; none where the name or the folder is unknown."""
        if self.features is None:
            return self._in_folder(name)
        if self.root is None or name not in self.rows:
            return []
        rows = self.rows[name]
        ids = self.features.image_id[rows]
        # Feature files without names of images number them: then a track's folder holds them in order.
        if list(ids) == number_images([name] * len(rows)):
            found = self._in_folder(name)
            return found if len(found) == len(rows) else []
        return [locate_image(self.root, image_id) for image_id in ids]

    def image_names(self, name: str) -> list[str]:
        """What the images of an item are called."""
        if self.features is None or name not in self.rows:
            return [Path(str(image)).name for image in self.images(name)]
        return [str(image_id) for image_id in self.features.image_id[self.rows[name]]]

    def vectors(self, name: str) -> Float32Array:
        """(n, D) features of an item's images.

        Raises:
            DataError: There are no features of that name.
        """
        if self.features is None or name not in self.rows:
            hint = "show it with the features that it was made from"
            raise DataError(f"{self.source} holds no features of {name}", hint=hint, file=self.source)
        return self.features.matrix.take(self.rows[name])

    def check_root(self) -> None:
        """Refuse to show images whose folder is unknown or gone.

        Raises:
            DataError: It is.
        """
        problem = self.root_problem()
        if problem is not None:
            raise problem

    def root_problem(self) -> DataError | None:
        """What is wrong with the folder of the images; None where it is there."""
        if self.root is None:
            hint = "name the folder of the images instead of the features"
            return DataError(f"{self.source} does not say where its images are", hint=hint, file=self.source)
        if self.features is not None and not self.root.is_dir():
            hint = "run vreid extract again with the --data-dir where they are now; it computes nothing again"
            return DataError(f"the images of {self.source} are not at {self.root} any more", hint=hint, file=self.root)
        return None

    def _in_folder(self, name: str) -> list[Path | Crop]:
        if self.root is None:
            return []
        if (self.root / name).is_file():
            return [self.root / name]
        if not (self.root / name).is_dir():
            return []
        names = sorted(path.name for path in (self.root / name).iterdir() if is_image(path.name))
        return [self.root / name / image for image in names]


def open_side(source: ImageSource, facts: RankingFacts, *, single: bool) -> ReportSide:
    """One side of a ranking.

    Args:
        source: Its features, or the folder of its images: an image is named by its path in it, a track by the folder
            of its images.
        facts: How the ranking was made.
        single: Whether its items are images.
    """
    if not isinstance(source, FeatureSet):
        return ReportSide(str(source), None, {}, as_path(source))
    tracks = image_items(source) if single else group_tracks(source, facts.track_unit or "passage")
    parts = np.split(tracks.rows, tracks.offsets[1:-1])
    rows = {str(name): part for name, part in zip(tracks.items.ids, parts, strict=True)}
    root = None if source.image_root is None else as_path(source.image_root)
    return ReportSide(source.source, source, rows, root)


def open_sides(
    facts: RankingFacts, *, query: ImageSource | None, gallery: ImageSource
) -> tuple[ReportSide, ReportSide]:
    """Both sides of a ranking; the queries lie in the gallery where they have no source of their own."""
    if query is None or facts.query_source == "gallery":
        query = gallery
    # Files of others do not say their task: they are between tracks, as the paper's are.
    queries = open_side(query, facts, single=facts.task in ("i2i", "i2t"))
    return queries, open_side(gallery, facts, single=facts.task == "i2i")


def doubts_about(
    sides: Sequence[ReportSide], facts: RankingFacts, *, ranking: str, unknown: Sequence[str] = ()
) -> list[str]:
    """Signs that the images are not those that the ranking was made from.

    Args:
        sides: Queries and gallery.
        facts: How the ranking was made.
        ranking: What messages call the ranking.
        unknown: Items without an image.
    """
    where = " and ".join(dict.fromkeys(side.source for side in sides))
    hint = "show it with the features that it was made from; vreid show takes them from --run-dir"
    doubts = [f"{where}: no image of {amount(len(unknown), 'name')}, such as {unknown[0]}; {hint}"] if unknown else []
    features = sides[1].features
    identities = (features.identity if features is not None else None, facts.gallery_identity)
    if None not in identities and identities[0] != identities[1]:
        doubts.append(f"{ranking} was not made from {sides[1].source}: the images may be others")
    return doubts
