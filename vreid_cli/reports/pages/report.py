"""A ranking as a page: each query's images over its nearest, and why each match is one."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vreid_cli.errors import StoreError, UsageError, require_type
from vreid_cli.evaluation.evaluate import Evaluation
from vreid_cli.evaluation.evaluate import evaluate as evaluate_ranking
from vreid_cli.evaluation.nearest import JudgedItem, judge_nearest
from vreid_cli.evaluation.options import EvaluationOptions
from vreid_cli.ranking.pairs import PairDistances, thin_pair
from vreid_cli.reports.images import ImageSource, ReportSide, doubts_about, open_sides
from vreid_cli.reports.options import ShowOptions
from vreid_cli.reports.pages.charts import charts_of
from vreid_cli.reports.pages.rendering import render_page
from vreid_cli.reports.pages.thumbnails import Thumbnails
from vreid_cli.reports.pairs import PairExplainer, explainer_of, rule_of
from vreid_cli.reports.queries import choose_queries, explain_ranks
from vreid_cli.reports.sheets.layout import sample_images
from vreid_cli.reports.sheets.pair import RAMP
from vreid_cli.reports.tables import percent, probability_text
from vreid_cli.runtime.files import atomic_path
from vreid_cli.runtime.objects import ObjectPath, as_path
from vreid_cli.types.amounts import amount
from vreid_cli.types.features import MEANINGLESS
from vreid_cli.types.rankings import NO_MATCH, Ranking
from vreid_cli.types.truth import GroundTruth

#: Most images of each track that the view of a match holds.
_PAIR_IMAGES = 12
#: A page above this takes long to open; its thumbnails can lie beside it.
LARGE = 60_000_000
_WITHOUT_FEATURES = (
    "The page was made without the features of these images, so it cannot say which of them decide: name them with "
    "--query-features and --gallery-features."
)


@dataclass(frozen=True, eq=False)
class ReportPage:
    """A page that people pass around: one file, which needs no network.

    Attributes:
        nearest: What it shows of the ranking, by query: the nearest and the junk among them.
        warnings: What is doubtful.
        evaluation: The scores that it shows; None where no label is known.
    """

    nearest: Mapping[str, Sequence[JudgedItem]]
    warnings: tuple[str, ...]
    evaluation: Evaluation | None
    _values: Mapping[str, Any] = field(repr=False)
    _thumbnails: Sequence[bytes | None] = field(repr=False)

    @property
    def html(self) -> str:
        """The page with its thumbnails in it."""
        inside = [None if webp is None else base64.b64encode(webp).decode("ascii") for webp in self._thumbnails]
        return render_page("report.html", thumbnails=inside, **self._values)

    def save(self, path: str | Path, *, assets: bool = False) -> None:
        """Write the page, whole or not at all.

        Args:
            path: Where it goes, ``.html``.
            assets: Put the thumbnails into a folder beside it, ``<name>_files``, which must go where the page goes.

        Raises:
            UsageError: The file's ending is another one.
            StoreError: It cannot be written.
        """
        path = as_path(path)
        check_page_path(path)
        if not assets:
            text = self.html
        else:
            folder = path.with_name(f"{path.stem}_files")
            names = self._write_beside(folder)
            data = {**self._values["data"], "folder": folder.name}
            text = render_page("report.html", images_beside=True, thumbnails=names, **{**self._values, "data": data})
        with atomic_path(path) as temporary:
            # A name that is no Unicode is shown as far as it is.
            temporary.write_bytes(text.encode("utf-8", "backslashreplace"))

    def _write_beside(self, folder: Path) -> list[str | None]:
        names = [None if webp is None else f"{place:05}.webp" for place, webp in enumerate(self._thumbnails)]
        if folder.is_dir():
            _check_ours(folder)
        if isinstance(folder, ObjectPath):  # which has no folders to replace as a whole
            for name, webp in zip(names, self._thumbnails, strict=True):
                if name is not None and webp is not None:
                    with atomic_path(folder / name) as temporary:
                        temporary.write_bytes(webp)
            return names
        with atomic_path(folder) as temporary:
            try:
                temporary.mkdir(exist_ok=True)
                for name, webp in zip(names, self._thumbnails, strict=True):
                    if name is not None and webp is not None:
                        (temporary / name).write_bytes(webp)
                shutil.rmtree(folder, ignore_errors=True)
            except OSError:
                shutil.rmtree(temporary, ignore_errors=True)
                raise
        return names


def _check_ours(folder: Path) -> None:
    """Refuse to replace a folder with anything else in it than an earlier page's images."""
    other = next((path for path in folder.iterdir() if not re.fullmatch(r"\d{5,}\.webp", path.name)), None)
    if other is not None:
        raise StoreError(f"{folder} holds {other.name}, which is no image of a page", hint="move it away", file=folder)


def is_page(path: Path) -> bool:
    """Whether a file is named as a page."""
    return path.suffix.lower() in (".html", ".htm")


def check_page_path(path: Path) -> None:
    """Refuse a file that is not named as a page.

    Raises:
        UsageError: Its ending is not ``.html``.
    """
    if not is_page(path):
        raise UsageError(
            f"a page is written as .html, not as '{path.name}'", hint=f"write to {path.with_suffix('.html')}"
        )


def report(
    ranking: Ranking,
    queries: str | Sequence[str] | None = None,
    *,
    gallery: ImageSource,
    query: ImageSource | None = None,
    options: ShowOptions | None = None,
    evaluation: EvaluationOptions | None = None,
    truth: GroundTruth | None = None,
    thumbnails: Path | None = None,
    advance: Callable[[int], object] = lambda count: None,
) -> ReportPage:
    """Make a page of a ranking.

    Args:
        ranking: A ranking in memory, or one that was read from a file.
        queries: Names of queries; ``*`` and ``?`` stand for anything. None for all, up to ``page_queries``.
        gallery: The features that the ranking was made from, which know their images, or the folder of the images.
            Without features the page does not say why a match is one.
        query: The same of the queries; None where they lie in the gallery, too.
        options: How many queries, nearest items and images of each; ``worst`` and ``best`` choose by AP.
        evaluation: How scores are counted.
        truth: What the data set itself says; without it labels decide.
        thumbnails: Where small images are kept; None for vreid's cache folder.
        advance: Called with numbers that add up to the number of queries.

    Returns:
        The page; ``save("report.html")`` writes it.

    Raises:
        UsageError: A query is not in the ranking, or ``worst`` and ``best`` are asked for without labels.
        DataError: The ranking lists nothing, or the features do not fit it.

    Examples:
        >>> import numpy as np
        >>> from PIL import Image
        >>> import vreid_cli as vreid
        >>> for track in ("red", "blue"):
        ...     Path(track).mkdir()
        ...     Image.new("RGB", (64, 48), track).save(f"{track}/0.png")
        >>> features = vreid.FeatureSet.from_arrays(np.eye(2), track_id=["red", "blue"]).at(".")
        >>> ranking = vreid.rank(features, features)["meanMCD50"]
        >>> page = vreid.report(ranking, gallery=features, query=features)
        >>> page.save("report.html")
        >>> [one.item.gallery_id for one in page.nearest["blue"]]
        ['red']
    """
    options, evaluation = options or ShowOptions(), evaluation or EvaluationOptions()
    require_type(ranking, Ranking, name="ranking", hint="from vreid.rank or vreid.read_ranking")
    require_type(options, ShowOptions, name="options", hint="as in vreid.ShowOptions(top=3)")
    sides = open_sides(ranking.facts, query=query, gallery=gallery)
    scores = evaluate_ranking(ranking, evaluation, truth=truth) if _labelled(ranking) else None
    chosen = choose_queries(ranking, queries, most=options.page_queries, options=options, scores=scores)
    same_camera = evaluation.same_camera
    judged = judge_nearest(ranking, chosen, top=options.top, same_camera=same_camera, truth=truth)
    explainer = explainer_of(ranking, sides) if all(side.features is not None for side in sides) else None
    builder = _Builder(sides, explainer, options, Thumbnails(thumbnails))
    labels = dict(
        zip(ranking.queries.ids, zip(ranking.queries.vehicles, ranking.queries.cameras, strict=True), strict=True)
    )
    rows = []
    for name, items in judged.items():
        rows.append(builder.query_row(name, items, labels=labels[name], scores=scores))
        advance(1)
    made = builder.thumbnails.make()
    doubts = [MEANINGLESS] if ranking.facts.meaningless else []
    doubts += doubts_about(sides, ranking.facts, ranking=ranking.source, unknown=sorted(builder.without))
    problems = [side.root_problem() for side in sides]
    doubts += list(dict.fromkeys(problem.message for problem in problems if problem is not None))
    gone = [f"{image}: {reason}" for image, reason in builder.thumbnails.missing.items()]
    values = {
        "title": f"{ranking.facts.metric_name or 'Ranking'}: {amount(len(rows), 'query')}",
        "facts": f"{explain_ranks(ranking.facts, same_camera)}.",
        "network": _network(ranking),
        "labelled": scores is not None,
        "warnings": [MEANINGLESS] if ranking.facts.meaningless else [],
        "notes": [*(doubt for doubt in doubts if doubt != MEANINGLESS), *gone],
        **_figures(scores),
        "data": {**builder.data(rows), **_identity(ranking, chosen)},
    }
    return ReportPage(judged, (*doubts, *gone), scores, values, made)


def _network(ranking: Ranking) -> str:
    """What made the features, as far as the ranking says it."""
    facts = ranking.facts
    said = {"network": facts.architecture, "weights": facts.weights, "ranking": Path(ranking.source).name}
    return "; ".join(f"{name} {value}" for name, value in said.items() if value)


def _labelled(ranking: Ranking) -> bool:
    return any(label is not None for label in ranking.queries.vehicles)


def _identity(ranking: Ranking, queries: Sequence[str]) -> dict[str, Any]:
    """What marks belong to: they stay in the browser under this key."""
    facts = json.dumps([ranking.facts.to_dict(), list(queries)], sort_keys=True, default=str)
    key = hashlib.sha256(facts.encode("utf-8", "backslashreplace")).hexdigest()[:16]
    return {"key": key, "metric": ranking.facts.metric_name or "", "ranking": Path(ranking.source).name}


def _figures(scores: Evaluation | None) -> dict[str, Any]:
    if scores is None:
        return {"figures": [], "counted": "", "curves": []}
    interval = scores.intervals.mean_ap
    sure = f" ± {50 * (interval.high - interval.low):.1f}" if interval is not None else ""
    figures = [{"name": "mAP", "text": f"{percent(scores.mean_ap)} %{sure}"}]
    figures += [{"name": f"rank-{rank}", "text": f"{percent(value)} %"} for rank, value in scores.cmc.items()]
    figures.append({"name": "mINP", "text": f"{percent(scores.mean_inp)} %"})
    valid = f"{scores.valid_queries:,} of {scores.total_queries:,}"
    figures.append({"name": "valid queries", "text": valid})
    options = scores.options
    counted = (
        f"Scores of all {amount(scores.total_queries, 'query')} of the ranking, AP rule {options.ap}, "
        f"--same-camera {options.same_camera}, ground truth from {scores.ground_truth}; ± half of a 95% interval, "
        f"{amount(scores.intervals.vehicles, 'vehicle')} resampled."
    )
    return {"figures": figures, "counted": counted, "curves": charts_of(scores)}


@dataclass(eq=False)
class _Builder:
    """Gathers what a page holds, each gallery item and each image once."""

    sides: tuple[ReportSide, ReportSide]
    explainer: PairExplainer | None
    options: ShowOptions
    thumbnails: Thumbnails
    without: set[str] = field(default_factory=set)
    items: list[dict[str, Any]] = field(default_factory=list)
    rules: list[str] = field(default_factory=list)
    _places: dict[str, int] = field(default_factory=dict)

    def query_row(
        self,
        name: str,
        judged: Sequence[JudgedItem],
        *,
        labels: Sequence[str | None],
        scores: Evaluation | None,
    ) -> dict[str, Any]:
        """One query, its vehicle and camera, with its nearest."""
        row = self._item(0, name, vehicle=labels[0], camera=labels[1])
        found = [one for one in judged if one.item.gallery_id != NO_MATCH]
        row |= {"ap": None, "first": 0, "no_match": len(found) < len(judged)}
        row["matches"] = [self._match(row, one) for one in found]
        if scores is not None:
            places = np.flatnonzero(scores.queries.query_ids == name)
            if len(places) and scores.queries.positives[places[0]]:
                row["ap"] = round(float(scores.queries.average_precision[places[0]]), 6)
                row["first"] = int(scores.queries.first_positive[places[0]])
        return row

    def data(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """What the page's script reads."""
        return {
            "queries": rows,
            "items": self.items,
            "rules": self.rules,
            "ramp": RAMP.astype(int).tolist(),
            "folder": "",
            "without_pairs": _WITHOUT_FEATURES,
        }

    def _match(self, query: dict[str, Any], one: JudgedItem) -> dict[str, Any]:
        item, name = one.item, one.item.gallery_id
        if name not in self._places:
            self._places[name] = len(self.items)
            self.items.append(self._item(1, name, vehicle=item.gallery_vehicle, camera=item.gallery_camera))
        kind = "junk" if one.left_out else "right" if one.kind == "junk" else one.kind
        match: dict[str, Any] = {
            "item": self._places[name],
            "rank": None if one.left_out else item.rank,
            "distance": item.distance,
            "kind": kind,
        }
        if item.probability is not None:
            match["probability"] = probability_text(item.probability)
        if self.explainer is not None:
            pair, definition = self.explainer.explain(query["id"], name, ranked=item.distance)
            match["pair"] = self._pair(pair, query, self.items[self._places[name]])
            rule = rule_of(pair.metric, definition)
            if rule not in self.rules:
                self.rules.append(rule)
            match["pair"]["rule"] = self.rules.index(rule)
        return match

    def _item(self, side: int, name: str, *, vehicle: str | None, camera: str | None) -> dict[str, Any]:
        images = self.sides[side].images(name)
        if not images:
            self.without.add(name)
        positions = sample_images(range(len(images)), self.options.max_images)
        return {
            "id": name,
            "vehicle": vehicle,
            "camera": camera,
            "count": len(images),
            "strip": list(positions),
            "shown": {place: self.thumbnails.place_of(images[place]) for place in positions},
        }

    def _pair(self, pair: PairDistances, query: dict[str, Any], item: dict[str, Any]) -> dict[str, Any]:
        rows, columns = thin_pair(pair, _PAIR_IMAGES)
        for side, of, positions in ((0, query, rows), (1, item, columns)):
            lacking = [place for place in positions.tolist() if place not in of["shown"]]
            images = self.sides[side].images(of["id"]) if lacking else []
            of["shown"] |= {place: self.thumbnails.place_of(images[place]) for place in lacking if place < len(images)}
            of["count"] = max(of["count"], pair.cells.shape[side])
        part = np.ix_(rows, columns)
        counts = pair.counts[part].ravel()
        decide = np.flatnonzero(counts)
        return {
            "rows": rows.tolist(),
            "columns": columns.tolist(),
            "cells": base64.b64encode(pair.cells[part].astype("<f4").tobytes()).decode("ascii"),
            "counts": [[int(place), int(counts[place])] for place in decide],
            "shows": pair.shows,
            "spelled": pair.spelled,
        }
