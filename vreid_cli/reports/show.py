"""The nearest gallery items of some queries, chosen from a ranking and shown as a sheet of their images."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from pathlib import Path

from vreid_cli.data.boxes import Crop, locate_image
from vreid_cli.data.decoding import is_image
from vreid_cli.errors import DataError, UsageError, did_you_mean
from vreid_cli.evaluation.nearest import nearest
from vreid_cli.ranking.tracks import group_tracks, image_items
from vreid_cli.reports.options import ShowOptions
from vreid_cli.reports.sheets.layout import SheetItem, Verdict
from vreid_cli.reports.sheets.sheet import Sheet, render_sheet
from vreid_cli.types.arrays import TextArray
from vreid_cli.types.features import MEANINGLESS, FeatureSet
from vreid_cli.types.rankings import RankedItem, Ranking, RankingFacts
from vreid_cli.types.truth import SameCamera

#: Letters of a caption that the narrowest strip of a sheet has room for.
_CAPTION = 27
_LEFT_OUT = {
    "drop": "the query itself and what its own camera saw of its vehicle",
    "keep": "the query itself only",
}


def show(
    ranking: Ranking,
    queries: str | Sequence[str] | None = None,
    *,
    gallery: FeatureSet | str | Path,
    query: FeatureSet | str | Path | None = None,
    options: ShowOptions | None = None,
    same_camera: SameCamera = "drop",
) -> Sheet:
    """Show queries of a ranking, each with the images of its nearest gallery items.

    Args:
        ranking: A ranking in memory, or one that was read from a file.
        queries: Names of queries; ``*`` and ``?`` stand for anything. None for the first ``max_queries``.
        gallery: Where the gallery's images lie: its features, or the folder of its images. In a folder an image is
            named by its path, and a track by the folder of its images.
        query: Where the queries' images lie; None where they lie in the gallery, too.
        options: How many queries, nearest items and images of each.
        same_camera: ``drop`` leaves out what the query's own camera saw of its vehicle; ``keep`` does not.

    Returns:
        A sheet, which a notebook displays; it warns of images that are missing.

    Raises:
        UsageError: A query is not in the ranking.
        DataError: The ranking lists nothing, or there is no image of anything that it names.

    Examples:
        >>> import numpy as np
        >>> from PIL import Image
        >>> import vreid_cli as vreid
        >>> for track in ("red", "blue"):
        ...     Path(track).mkdir()
        ...     Image.new("RGB", (64, 48), track).save(f"{track}/0.png")
        >>> features = vreid.FeatureSet.from_arrays(np.eye(2), track_id=["red", "blue"])
        >>> ranking = vreid.rank(features, features)["meanMCD50"]
        >>> sheet = vreid.show(ranking, "red", gallery=".")
        >>> [(item.rank, item.gallery_id) for item in sheet.nearest["red"]]
        [(1, 'red'), (2, 'blue')]
        >>> sheet.save("nearest.png")
    """
    options = options or ShowOptions()
    facts = ranking.facts
    chosen = choose_queries(ranking, queries, most=options.max_queries)
    lists = nearest(ranking, chosen, top=options.top, same_camera=same_camera)
    gallery_images = _ItemImages(gallery, facts, single=facts.task == "i2i")
    query_images = _ItemImages(
        gallery if query is None or facts.query_source == "gallery" else query,
        facts,
        single=facts.task in ("i2i", "i2t"),
    )
    rows = [
        [_query_item(name, items, query_images), *(_gallery_item(item, gallery_images) for item in items)]
        for name, items in lists.items()
    ]
    doubts = _check_images(ranking, query_images, gallery_images)
    title = (
        f"{facts.metric or 'unknown metric'} - {'the nearest' if options.top == 1 else f'the {options.top} nearest'}"
    )
    subtitle = explain_ranks(facts, same_camera) + (f".\n{MEANINGLESS.upper()}" if facts.meaningless else ".")
    sheet = render_sheet(rows, title=title, subtitle=subtitle, max_images=options.max_images)
    return Sheet(sheet.image, sheet.strips, nearest=lists, warnings=(*doubts, *sheet.warnings))


def choose_queries(ranking: Ranking, names: str | Sequence[str] | None, *, most: int) -> list[str]:
    """Queries of a ranking by their names, in which ``*`` and ``?`` stand for anything; without names the first.

    Raises:
        UsageError: A name fits no query.
        DataError: The ranking lists nothing for any query.
    """
    known = list(ranking.queries.ids)
    if not known:
        raise DataError(
            f"{ranking.source} lists nothing for any query (lists {ranking.facts.text('coverage')})",
            hint="choose a larger --threshold" if ranking.facts.threshold is not None else "make it again",
            file=ranking.source,
        )
    if not names:
        return known[:most]
    chosen: dict[str, None] = {}
    for name in [names] if isinstance(names, str) else names:
        matches = [name] if name in known else fnmatch.filter(known, name)
        if not matches:
            raise UsageError(f"{ranking.source} has no query '{name}'", hint=_similar(name, known))
        chosen |= dict.fromkeys(matches)
    return list(chosen)


def _similar(name: str, known: Sequence[str]) -> str:
    if len(known) <= 20:
        return did_you_mean(name, known)
    similar = [query for query in known if query.startswith(name)][:5]
    return f"such as {', '.join(similar or known[:5])}, … ({len(known)} queries; * and ? stand for anything)"


def explain_ranks(facts: RankingFacts, same_camera: SameCamera) -> str:
    """How a ranking was made, and what its ranks leave out, in one line.

    Examples:
        >>> explain_ranks(RankingFacts(dataset="veri", task="i2i", definition="paper"), "keep")
        'dataset veri; task i2i; definition paper; ranks leave out the query itself only (--same-camera keep)'
    """
    left_out = f"ranks leave out {_LEFT_OUT[same_camera]} (--same-camera {same_camera})"
    return "; ".join((*facts.in_words(), left_out))


def _query_item(name: str, items: Sequence[RankedItem], images: _ItemImages) -> SheetItem:
    return SheetItem(name=name, images=images.of(name), caption=_caption(items[0], "query") if items else "")


def _gallery_item(item: RankedItem, images: _ItemImages) -> SheetItem:
    if item.query_vehicle is None or item.gallery_vehicle is None:
        verdict = Verdict.UNLABELLED
    else:
        verdict = Verdict.MATCH if item.query_vehicle == item.gallery_vehicle else Verdict.DIFFERENT
    return SheetItem(
        name=item.gallery_id,
        images=images.of(item.gallery_id),
        caption=_caption(item, "gallery"),
        verdict=verdict,
        rank=item.rank,
        distance=item.distance,
    )


def _caption(item: RankedItem, side: str) -> str:
    labels = {what: getattr(item, f"{side}_{what}") for what in ("vehicle", "camera")}
    full = " · ".join(f"{what} {label}" for what, label in labels.items() if label)
    # Labels that tell more than a number stand for themselves, and would leave no room for the words.
    return full if len(full) <= _CAPTION else " · ".join(label for label in labels.values() if label)


def _check_images(ranking: Ranking, query: _ItemImages, gallery: _ItemImages) -> list[str]:
    """Signs that the images are not those that the ranking was made from.

    Raises:
        DataError: There is no image of anything.
    """
    hint = "show it with the features that it was made from; vreid show takes them from --run-dir"
    sources = " and ".join(dict.fromkeys([query.source, gallery.source]))
    if not (query.known or gallery.known):
        raise DataError(f"nothing that {ranking.source} names is in {sources}", hint=hint, file=ranking.source)
    unknown = sorted(query.unknown | gallery.unknown)
    doubts = [f"{sources}: no images of {len(unknown)} names, such as {unknown[0]}; {hint}"] if unknown else []
    made_from = ranking.facts.gallery_identity
    if None not in (gallery.identity, made_from) and gallery.identity != made_from:
        doubts.append(f"{ranking.source} was not made from {gallery.source}: the images may be others")
    return [*([MEANINGLESS] if ranking.facts.meaningless else []), *doubts]


class _ItemImages:
    """Finds the images of ranked items by name.

    Attributes:
        source: Where they lie, for messages.
        identity: What made the features; None for a folder.
        known: Names that were found.
        unknown: Names that were not.
    """

    def __init__(self, source: FeatureSet | str | Path, facts: RankingFacts, *, single: bool) -> None:
        self.known: set[str] = set()
        self.unknown: set[str] = set()
        self._items: Mapping[str, TextArray] | None = None
        if not isinstance(source, FeatureSet):
            self.source, self.identity, self._root = str(source), None, Path(source)
            return
        self.source, self.identity = source.source, source.identity
        self._root = _image_root(source)
        tracks = image_items(source) if single else group_tracks(source, facts.track_unit or "passage")
        bounds = zip(tracks.offsets[:-1], tracks.offsets[1:], strict=True)
        self._items = {
            name: source.image_id[tracks.rows[first:last]]
            for name, (first, last) in zip(tracks.items.ids, bounds, strict=True)
        }

    def of(self, name: str) -> list[Path | Crop]:
        """The item's images, in order; none where its name is unknown."""
        found = self._images_in_folder(name) if self._items is None else self._items.get(name, ())
        (self.known if len(found) else self.unknown).add(name)
        return [locate_image(self._root, image_id) for image_id in found]

    def _images_in_folder(self, name: str) -> list[str]:
        path = self._root / name
        if path.is_dir():
            return sorted(f"{name}/{image.name}" for image in path.iterdir() if is_image(image.name))
        return [name] if path.is_file() else []


def _image_root(features: FeatureSet) -> Path:
    root = features.image_root
    if root is None:
        raise DataError(
            f"{features.source} does not say where its images are",
            hint="name the folder of the images instead of the features",
            file=features.source,
        )
    if not Path(root).is_dir():
        raise DataError(
            f"the images of {features.source} are not at {root} any more",
            hint="run vreid extract again with the --data-dir where they are now; it computes nothing again",
            file=root,
        )
    return Path(root)
