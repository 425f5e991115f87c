"""Why a match: one pair of a ranking computed again from its features, and drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from vreid_cli.errors import DataError, UsageError, VreidError, did_you_mean, nearest_name, require_type
from vreid_cli.evaluation.nearest import JudgedItem, find_match
from vreid_cli.ranking.metrics import Metric, known_metrics, parse_metrics
from vreid_cli.ranking.pairs import PairDistances, explain_pair, number
from vreid_cli.reports.images import ReportSide, doubts_about, open_sides
from vreid_cli.reports.options import ShowOptions
from vreid_cli.reports.sheets.pair import PairDrawing, PairSide, append_rows, draw_pair
from vreid_cli.reports.sheets.sheet import DrawnImage
from vreid_cli.types.amounts import amount
from vreid_cli.types.arrays import Float32Array
from vreid_cli.types.features import MEANINGLESS, FeatureSet
from vreid_cli.types.rankings import Definition, Ranking, Task
from vreid_cli.types.truth import SameCamera

if TYPE_CHECKING:  # torch is imported only where a network lights images
    from vreid_cli.models.weights import LoadedNetwork
    from vreid_cli.reports.attention import LitPair

#: What a distance in a ranking and the same pair computed again may differ by: more than rounding, so that features
#: which were extracted again elsewhere still fit, and others do not (docs/definitions.md#why-a-match). Cosines near 1
#: lose digits, so MCD has an absolute part.
_RELATIVE, _ABSOLUTE = 1e-3, {"MCD": 2e-5}
_SIMILAR_NAMES = 20
_LIT = "Where they agree: the images as the network sees them, dark where a place adds nothing"
_OTHER_FEATURES = "name the features that it was made from, or make the ranking again with vreid rank"


@dataclass(frozen=True, eq=False)
class PairView(DrawnImage):
    """Why a gallery item is as far from a query as it is; a notebook displays it.

    Attributes:
        query_id: The query.
        gallery_id: The gallery item.
        distances: The pair, image by image.
        definition: By which definition.
        match: The ranking's own row of the pair; None where it is not listed.
        lit: The nearest images that decide, with the places lit that they agree at; none without a network.
    """

    query_id: str = ""
    gallery_id: str = ""
    distances: PairDistances = field(kw_only=True)
    definition: Definition = "paper"
    match: JudgedItem | None = None
    lit: tuple[LitPair, ...] = ()


@dataclass(frozen=True, eq=False)
class PairExplainer:
    """Computes pairs of a ranking again; made by :func:`explainer_of`.

    Attributes:
        ranking: The ranking.
        sides: Queries and gallery.
        metric: What the ranking is by.
        definitions: By which definitions it may have been made: all of them, where it does not say so.
    """

    ranking: Ranking
    sides: tuple[ReportSide, ReportSide]
    metric: Metric
    definitions: tuple[Definition, ...]
    _vectors: dict[tuple[int, str], Float32Array] = field(default_factory=dict)

    def explain(self, query: str, item: str, *, ranked: float | None) -> tuple[PairDistances, Definition]:
        """One pair, and the definition by which it was computed.

        Args:
            query: The query.
            item: The gallery item.
            ranked: The ranking's distance, which is compared; None where there is none.

        Raises:
            DataError: The features do not hold the pair, or give another distance than the ranking has.
        """
        one, other = self._take(0, query), self._take(1, item)
        alpha = 1.0 if self.ranking.facts.alpha is None else self.ranking.facts.alpha
        found = []
        for definition in self.definitions:
            pair = explain_pair(one, other, self.metric, definition=definition, alpha=alpha)
            found.append(pair)
            # Re-ranked distances depend on the neighbours too.
            if None in (pair.value, ranked) or self.ranking.facts.rerank is not None:
                return pair, definition
            value, wanted = cast("float", pair.value), cast("float", ranked)
            if abs(value - wanted) <= _ABSOLUTE.get(self.metric.distance, 0) + _RELATIVE * abs(wanted):
                return pair, definition
        values = " or ".join(number(cast("float", pair.value)) for pair in found)
        raise DataError(
            f"{self.ranking.source} has {number(cast('float', ranked))} as the distance of {query} and {item} by "
            f"{self.metric.name}, but the features of {self.sides[1].source} give {values}",
            hint=_OTHER_FEATURES,
            file=self.ranking.source,
        )

    def _take(self, side: int, name: str) -> Float32Array:
        key = side, name
        if key not in self._vectors:
            self._vectors[key] = self.sides[side].vectors(name)
        return self._vectors[key]


def explainer_of(ranking: Ranking, sides: tuple[ReportSide, ReportSide]) -> PairExplainer:
    """What computes pairs of this ranking again.

    Raises:
        DataError: The ranking does not say by which metric it is, or the sides have features that do not fit each
            other.
    """
    facts = ranking.facts
    task: Task = facts.task or ("t2t" if facts.metric in known_metrics("t2t") else "i2t")
    if facts.metric is None:
        raise DataError(f"{ranking.source} does not say by which metric it is", file=ranking.source)
    definitions: tuple[Definition, ...] = ("paper", "released") if task == "t2t" else ("paper",)
    if facts.definition is not None:
        definitions = (facts.definition,)
    try:
        (metric,) = parse_metrics([facts.metric], task)
    except VreidError as error:
        raise DataError(f"{ranking.source}: {error.message}", hint=error.hint, file=ranking.source) from None
    widths = [side.features.dimension for side in sides if side.features is not None]
    if len(set(widths)) > 1:
        names = " and ".join(side.source for side in sides)
        message = f"{names} have {widths[0]} and {amount(widths[1], 'dimension')}: they do not fit each other"
        raise DataError(message, hint="both must come from the same network", file=sides[0].source)
    return PairExplainer(ranking, sides, metric, definitions)


def explain(
    ranking: Ranking,
    query_id: str,
    gallery_id: str,
    *,
    gallery: FeatureSet,
    query: FeatureSet | None = None,
    options: ShowOptions | None = None,
    same_camera: SameCamera = "drop",
    network: LoadedNetwork | None = None,
) -> PairView:
    """Why this match: the distances between the images of one pair, and which of them decide.

    Args:
        ranking: A ranking in memory, or one that was read from a file.
        query_id: A query.
        gallery_id: A gallery item.
        gallery: The features that the ranking was made from. Where they know their images, these are shown:
            :meth:`~vreid_cli.FeatureSet.at` says where the images lie.
        query: The same of the queries; None where they lie in the gallery, too.
        options: How many images of each item are drawn at most.
        same_camera: Whether ranks leave out what the query's own camera saw of its vehicle.
        network: The network that made the features: the places where the deciding images agree are lit then.

    Returns:
        The pair, drawn: a notebook displays it, and ``save("pair.png")`` keeps it. ``distances`` has the numbers.

    Raises:
        UsageError: The ranking has no such query or gallery item.
        DataError: The features do not hold the pair, or give another distance than the ranking has; or the network
            did not make them, or an image that it needs is not there.

    Examples:
        >>> import numpy as np
        >>> import vreid_cli as vreid
        >>> query = vreid.FeatureSet.from_arrays(np.array([[1.0, 0.0], [0.0, 1.0]]), track_id=["q", "q"])
        >>> gallery = vreid.FeatureSet.from_arrays(np.array([[0.0, 1.0], [1.0, 1.0]]), track_id=["a", "a"])
        >>> ranking = vreid.rank(query, gallery)["meanMCD50"]
        >>> view = vreid.explain(ranking, "q", "a", query=query, gallery=gallery)
        >>> view.distances.cells.round(3).tolist()
        [[1.0, 0.293], [0.0, 0.293]]
        >>> view.distances.spelled
        'meanMCD50 = (0.0000 + 0.2929) / 2 = 0.1464'
        >>> view.save("pair.png")
    """
    options = options or ShowOptions()
    require_type(ranking, Ranking, name="ranking", hint="from vreid.rank or vreid.read_ranking")
    require_type(options, ShowOptions, name="options", hint="as in vreid.ShowOptions(max_pair_images=8)")
    _check_name(ranking, "query", query_id, known=ranking.queries.ids.tolist())
    _check_name(ranking, "gallery item", gallery_id, known=ranking.gallery.ids.tolist())
    sides = open_sides(ranking.facts, query=query, gallery=gallery)
    explainer = explainer_of(ranking, sides)
    match = find_match(ranking, query_id, gallery_id, same_camera=same_camera)
    ranked = None if match is None else match.item.distance
    pair, definition = explainer.explain(query_id, gallery_id, ranked=ranked)
    drawn = [PairSide(name, side.images(name)) for side, name in zip(sides, (query_id, gallery_id), strict=True)]
    lines = [rule_of(pair.metric, definition), *_notes(ranking, match), *_where(sides, drawn)]
    image, missing = draw_pair(PairDrawing(pair, drawn[0], drawn[1], tuple(lines)), most=options.max_pair_images)
    lit: tuple[LitPair, ...] = ()
    if network is not None:
        from vreid_cli.reports.attention import light_pairs

        vectors = sides[0].vectors(query_id), sides[1].vectors(gallery_id)
        lit = tuple(light_pairs(network, pair, (drawn[0].images, drawn[1].images), features=vectors))
    if lit:
        image = append_rows(image, _LIT, [(one.caption, one.images) for one in lit])
    warnings = [MEANINGLESS] if ranking.facts.meaningless else []
    if network is not None and not lit:
        warnings.append(f"no places are lit: no single images decide {pair.metric.name}")
    warnings += [*doubts_about(sides, ranking.facts, ranking=ranking.source), *missing]
    return PairView(
        image,
        query_id=query_id,
        gallery_id=gallery_id,
        distances=pair,
        definition=definition,
        match=match,
        lit=lit,
        warnings=tuple(warnings),
    )


def rule_of(metric: Metric, definition: Definition) -> str:
    """How the metric comes from the distances between images, in a sentence.

    Examples:
        >>> rule_of(Metric("minMCD", "MCD", "min"), "paper")
        'minMCD: of each query image the distance to its nearest gallery image, then their minimum'
    """
    if metric.distance == "RSCR":
        return (
            "RSCR: each query image rebuilt from the gallery's by sparse codes (the cells); the lengths of what is left"
        )
    if metric.aggregation is None:
        return f"{metric.name}: the distance to the nearest gallery image"
    aggregate = {
        "min": "their minimum",
        "mean": "their mean",
        "med": "their median",
        "mean50": "the mean of the smaller half (n // 2 + 1 of n)",
        "med50": "the median of the smaller half (n // 2 + 1 of n)",
    }.get(metric.aggregation, f"their {metric.aggregation}")
    values = "of each query image the distance to its nearest gallery image"
    if definition == "released":
        values = "of each gallery image in order the running minimum over the query's images (definition released)"
    return f"{metric.name}: {values}, then {aggregate}"


def _notes(ranking: Ranking, match: JudgedItem | None) -> list[str]:
    """What the ranking says of the pair."""
    facts = ranking.facts
    if match is None:
        return [f"the ranking does not list this pair (lists {facts.text('coverage')})"]
    item = match.item
    said = {
        "right": "same vehicle",
        "wrong": "another vehicle",
        "junk": "junk: its vehicle by the query's own camera",
        "self": "the query itself",
    }
    place = "left out of the ranks" if match.left_out else f"rank {item.rank}"
    words = [place, said.get(match.kind, "vehicle unknown"), f"distance in the ranking {number(item.distance)}"]
    if facts.rerank is not None:
        words.append(f"re-ranked ({facts.text('rerank')}): below is the distance before, neighbours decide the rest")
    return ["; ".join(words)]


def _where(sides: Sequence[ReportSide], drawn: Sequence[PairSide]) -> list[str]:
    """Why there are no images, where there are none."""
    problems = [side.root_problem() for side, shown in zip(sides, drawn, strict=True) if not shown.images]
    return list(dict.fromkeys(problem.message for problem in problems if problem is not None))


def _check_name(ranking: Ranking, what: str, name: str, *, known: Sequence[str]) -> None:
    if name in known:
        return
    offer = nearest_name(name, known)
    many = f"did you mean '{offer}'?" if offer else f"such as {', '.join(known[:5])}, …"
    hint = did_you_mean(name, known) if len(known) <= _SIMILAR_NAMES else many
    raise UsageError(f"{ranking.source} has no {what} '{name}'", hint=hint)
