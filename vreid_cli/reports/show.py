"""The nearest gallery items of some queries, chosen from a ranking and shown as a sheet of their images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from vreid_cli.data.boxes import Crop
from vreid_cli.errors import DataError, require_type
from vreid_cli.evaluation.evaluate import evaluate
from vreid_cli.evaluation.nearest import nearest
from vreid_cli.evaluation.options import EvaluationOptions
from vreid_cli.reports.images import ImageSource, ReportSide, doubts_about, open_sides
from vreid_cli.reports.options import ShowOptions
from vreid_cli.reports.queries import choose_queries, explain_ranks
from vreid_cli.reports.sheets.layout import SheetItem, Verdict
from vreid_cli.reports.sheets.sheet import Sheet, render_sheet
from vreid_cli.types.features import MEANINGLESS
from vreid_cli.types.rankings import NO_MATCH, RankedItem, Ranking
from vreid_cli.types.truth import SameCamera

#: Letters of a caption that the narrowest strip of a sheet has room for.
_CAPTION = 27
#: What is drawn of whether an item shows the query's vehicle.
_VERDICTS = {True: Verdict.MATCH, False: Verdict.DIFFERENT, None: Verdict.UNLABELLED}

#: The images of items by their names.
ItemImagesByName = Mapping[str, Sequence[Path | Crop]]


def show(
    ranking: Ranking,
    queries: str | Sequence[str] | None = None,
    *,
    gallery: ImageSource,
    query: ImageSource | None = None,
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
        UsageError: A query is not in the ranking, or ``worst`` and ``best`` are asked for without labels.
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
    require_type(ranking, Ranking, name="ranking", hint="from vreid.rank or vreid.read_ranking")
    require_type(options, ShowOptions, name="options", hint="as in vreid.ShowOptions(top=3)")
    facts = ranking.facts
    scores = evaluate(ranking, EvaluationOptions(same_camera=same_camera)) if options.by_score else None
    chosen = choose_queries(ranking, queries, most=options.max_queries, options=options, scores=scores)
    lists = nearest(ranking, chosen, top=options.top, same_camera=same_camera)
    sides = open_sides(facts, query=query, gallery=gallery)
    for side in sides:
        side.check_root()
    query_images = {name: sides[0].images(name) for name in lists}
    names = dict.fromkeys(item.gallery_id for items in lists.values() for item in items)
    names.pop(NO_MATCH, None)  # nothing that could be seen
    gallery_images = {name: sides[1].images(name) for name in names}
    rows = []
    for name, items in lists.items():
        caption = _caption(items[0], "query") if items else ""
        found = [_gallery_item(item, gallery_images.get(item.gallery_id, ())) for item in items]
        rows.append([SheetItem(name=name, images=query_images[name], caption=caption), *found])
    doubts = _check_images(ranking, sides, images=(query_images, gallery_images))
    title = f"{facts.metric or 'unknown metric'} - the {f'{options.top} ' if options.top > 1 else ''}nearest"
    subtitle = explain_ranks(facts, same_camera) + (f".\n{MEANINGLESS.upper()}" if facts.meaningless else ".")
    sheet = render_sheet(rows, title=title, subtitle=subtitle, max_images=options.max_images)
    return Sheet(sheet.image, sheet.strips, nearest=lists, warnings=(*doubts, *sheet.warnings))


def _gallery_item(item: RankedItem, images: Sequence[Path | Crop]) -> SheetItem:
    verdict, caption = _VERDICTS[item.same_vehicle], _caption(item, "gallery")
    return SheetItem(
        name=item.gallery_id,
        images=images,
        caption=caption,
        verdict=verdict,
        rank=item.rank,
        distance=item.distance,
        probability=item.probability,
    )


def _caption(item: RankedItem, side: str) -> str:
    labels = {what: getattr(item, f"{side}_{what}") for what in ("vehicle", "camera")}
    full = " · ".join(f"{what} {label}" for what, label in labels.items() if label)
    # Labels that tell more than a number stand for themselves, and would leave no room for the words.
    return full if len(full) <= _CAPTION else " · ".join(label for label in labels.values() if label)


def _check_images(ranking: Ranking, sides: Sequence[ReportSide], *, images: Sequence[ItemImagesByName]) -> list[str]:
    """Signs that the images are not those that the ranking was made from; without any image an error."""
    unknown = sorted({name for side in images for name, found in side.items() if not found})
    if not any(found for side in images for found in side.values()):
        where = " and ".join(dict.fromkeys(side.source for side in sides))
        hint = "show it with the features that it was made from; vreid show takes them from --run-dir"
        raise DataError(f"nothing that {ranking.source} names is in {where}", hint=hint, file=ranking.source)
    doubts = [MEANINGLESS] if ranking.facts.meaningless else []
    return [*doubts, *doubts_about(sides, ranking.facts, ranking=ranking.source, unknown=unknown)]
