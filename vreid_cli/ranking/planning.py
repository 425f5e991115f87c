"""From two feature sets to a ranking job: what is compared with what, how, and whether it can be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from vreid_cli.errors import DataError, DeviceError, UsageError, require_type
from vreid_cli.ranking.answers import with_no_match
from vreid_cli.ranking.candidates import ImageSearch, choose_indexes
from vreid_cli.ranking.diagnostics import Diagnostics, warnings_of
from vreid_cli.ranking.engine import ItemImages, Sides
from vreid_cli.ranking.metrics import DISTANCES, Metric, parse_metrics
from vreid_cli.ranking.options import RankingOptions
from vreid_cli.ranking.tracks import find_selves, group_tracks, image_items, query_tracks_in
from vreid_cli.runtime.devices import choose_device
from vreid_cli.runtime.memory import memory_budget
from vreid_cli.runtime.options import RuntimeOptions
from vreid_cli.types.amounts import amount
from vreid_cli.types.calibrations import Calibration
from vreid_cli.types.features import MEANINGLESS, FeatureSet
from vreid_cli.types.index import Geometry
from vreid_cli.types.rankings import Coverage, RankingFacts
from vreid_cli.types.tracks import Items

#: From how rankings are made to what gives their distances probabilities, by metric.
CalibrationChooser = Callable[[Sequence[RankingFacts]], Mapping[str, Calibration]]
#: Options that are facts of a ranking as they are.
_RECORDED = {"task", "definition", "cameras", "candidates", "top_k", "threshold", "min_probability", "no_match"}


@dataclass(frozen=True)
class RankingJob(Sides):
    """Both sides gathered and checked, before any distance is computed, and what their rankings say of themselves.

    Attributes:
        facts: How the rankings are made, but for the metric.
        warnings: What concerns the rankings by every metric.
        calibrations: What gives the distances of a metric probabilities, by the metric's name.
        indexes: What proposes candidates, by what is near; none where every item is ranked.
    """

    facts: RankingFacts
    warnings: tuple[str, ...]
    calibrations: Mapping[str, Calibration]
    indexes: Mapping[Geometry, ImageSearch]

    @property
    def queries(self) -> Items:
        """The queries with their labels."""
        return self.query.items.items

    @property
    def listed(self) -> Items:
        """What lists consist of: the gallery items, and one that stands for none where that is wanted."""
        items = self.gallery.items.items
        return with_no_match(items) if self.options.no_match else items

    @property
    def steps(self) -> int:
        """What the calls of ``advance`` add up to: re-ranking compares queries and gallery with each other before."""
        whole = self.options.rerank and self.options.candidates is None
        return len(self.query) + (len(self.query) + len(self.gallery) if whole else 0)

    def facts_by(self, metric: Metric) -> RankingFacts:
        """How the ranking by this metric is made."""
        facts = _facts_by(self.facts, metric, self.options)
        calibration = self.calibrations.get(metric.name)
        return facts if calibration is None else facts.with_probabilities(calibration, expected=self.options.expected)

    def farthest_by(self, metric: Metric) -> float:
        """The largest distance of an answer; infinite where every item is one, and -1 where none can be."""
        options, facts = self.options, self.facts_by(metric)
        if options.min_probability is not None and facts.calibration is not None and facts.prior is not None:
            farthest = facts.calibration.farthest(options.min_probability, prior=facts.prior)
            return -1.0 if farthest is None else farthest
        return float("inf") if options.threshold is None else options.threshold

    def warnings_by(self, metric: Metric, diagnostics: Diagnostics) -> tuple[str, ...]:
        """What the ranking by this metric should warn of, given the sum of its blocks' diagnostics."""
        return (*self.warnings, *warnings_of(diagnostics, metric, self.options))


def plan_ranking(
    query: FeatureSet,
    gallery: FeatureSet,
    options: RankingOptions | None = None,
    *,
    runtime: RuntimeOptions | None = None,
    choose: CalibrationChooser = lambda rankings: {},
    indexes: Sequence[ImageSearch] = (),
) -> RankingJob:
    """Gather and check both sides; arguments and errors are those of :func:`rank`.

    ``choose`` says which calibration each ranking has.
    """
    options, runtime = options or RankingOptions(), runtime or RuntimeOptions()
    for name, side in (("query", query), ("gallery", gallery)):
        require_type(side, FeatureSet, name=name, hint="of an array: vreid.FeatureSet.from_arrays(array, track_id=…)")
    require_type(options, RankingOptions, name="options", hint='as in vreid.RankingOptions(metric="MCD", task="i2i")')
    metrics = tuple(parse_metrics(options.metric, options.task, definition=options.definition))
    _check_fit(query, gallery)
    device = choose_device(runtime.device)
    for metric in metrics:
        if DISTANCES[metric.distance].float64 and device.type == "mps":
            message = f"{metric.name} needs float64, which {device} does not have"
            raise DeviceError(message, hint="use --device cpu")
    items = image_items(gallery) if options.task == "i2i" else group_tracks(gallery, options.track_unit)
    right = ItemImages(gallery, items, device)
    if options.candidates is not None and options.candidates >= len(right):
        options = options.model_copy(update={"candidates": None})  # nothing is left out
    left, lost = _query_side(query, right, options)
    facts = _describe(query, left, right, options=options)
    warnings = []
    if lost:
        first = ", ".join(lost[:3])
        warnings.append(f"{amount(len(lost), 'query image')} in no gallery track, left out: {first}")
    if facts.meaningless:
        warnings.append(MEANINGLESS)
    budget = memory_budget(runtime.memory_budget_mb, device)
    fitting = choose([_facts_by(facts, metric, options) for metric in metrics])
    _check_answers(options, metrics, fitting, size=len(right))
    chosen = _choose_indexes(indexes, metrics, options, gallery=gallery)
    return RankingJob(left, right, metrics, options, budget, runtime.product, facts, tuple(warnings), fitting, chosen)


def sample_both_ways(job: RankingJob, *, queries: int, nearest: int, seed: int) -> tuple[RankingJob, RankingJob]:
    """Two jobs that rank the same queries of this one: exactly, and by candidates.

    Args:
        job: What ranks by candidates.
        queries: How many, or all if there are fewer.
        nearest: What the exact lists are cut to; items of the query's vehicle stay.
        seed: Of the choice.
    """
    chosen = np.sort(np.random.default_rng(seed).permutation(len(job.query))[:queries])
    query = replace(job.query, items=job.query.items.select(chosen))
    whole = {"threshold": None, "min_probability": None, "no_match": False}

    def ranked(limits: dict[str, int | None]) -> RankingJob:
        options = job.options.model_copy(update={**whole, **limits})
        coverage = _coverage(query.items.items, job.gallery.items.items, options)
        facts = replace(job.facts, query_count=len(query), coverage=coverage, **whole, **limits)  # type: ignore[arg-type]
        return replace(job, query=query, options=options, facts=facts)

    return ranked({"candidates": None, "top_k": nearest}), ranked({"top_k": None})


def _facts_by(facts: RankingFacts, metric: Metric, options: RankingOptions) -> RankingFacts:
    own = {name: getattr(options, name) for name in DISTANCES[metric.distance].options}
    return replace(facts, metric=metric.name, **own)


def _check_answers(
    options: RankingOptions, metrics: Sequence[Metric], calibrations: Mapping[str, Calibration], *, size: int
) -> None:
    """Refuse answers that nothing tells apart from the rest.

    Raises:
        UsageError: The options contradict each other.
        DataError: A probability is asked for, and no calibration gives one.
    """
    if options.min_probability is not None and options.threshold is not None:
        raise UsageError("--threshold and --min-probability: which one?", hint="name one of them")
    if options.no_match and options.min_probability is None and options.threshold is None:
        raise UsageError("--no-match: what is near enough to be a match?", hint="add --min-probability or --threshold")
    if options.no_match and options.top_k is not None:
        raise UsageError("--no-match and --top-k: which one?", hint="name one of them")
    lacking = [metric.name for metric in metrics if metric.name not in calibrations]
    if options.min_probability is not None and lacking:
        raise DataError(
            f"--min-probability: no calibration gives {', '.join(lacking)} probabilities",
            hint="fit one on labelled tracks with vreid calibrate, or name one with --calibration",
        )
    if options.expected is not None and options.expected >= size:
        raise UsageError(
            f"rank.expected {options.expected:g}: the gallery has {amount(size, 'item')}, fewer must show the vehicle",
            hint="1 where each vehicle passes once more, 0.5 where every second one does",
        )


def _choose_indexes(
    indexes: Sequence[ImageSearch], metrics: Sequence[Metric], options: RankingOptions, *, gallery: FeatureSet
) -> dict[Geometry, ImageSearch]:
    """The index of each space that candidates are looked for in; errors of :func:`choose_indexes`."""
    if options.candidates is None:
        return {}
    return choose_indexes(indexes, metrics, images=len(gallery))


def _query_side(query: FeatureSet, gallery: ItemImages, options: RankingOptions) -> tuple[ItemImages, list[str]]:
    """The query items, and the ids of query images that are in no gallery track where whole tracks are wanted."""
    if not _whole_tracks(query, options):
        items = group_tracks(query, options.track_unit) if options.task == "t2t" else image_items(query)
        return ItemImages(query, items, gallery.device), []
    tracks, lost = query_tracks_in(gallery.features, gallery.items, query)
    if not len(tracks):
        raise DataError(
            f"of {amount(len(query), 'query image')} none is in the gallery, so there is no query track",
            hint="VeRi's query tracks are gallery tracks that hold a query image: check the query split",
            file=query.source,
        )
    return ItemImages(gallery.features, tracks, gallery.device), lost


def _whole_tracks(query: FeatureSet, options: RankingOptions) -> bool:
    """Whether the query tracks are gallery tracks, by the data set's protocol."""
    return options.task == "t2t" and query.protocol == "gallery-tracks"


def _check_fit(query: FeatureSet, gallery: FeatureSet) -> None:
    for name, features in (("query", query), ("gallery", gallery)):
        if not len(features):
            raise DataError(f"the {name} {features.source} holds no features", file=features.source)
        if not features.dimension:
            raise DataError(f"the features of the {name} {features.source} have no dimension", file=features.source)
    if query.dimension != gallery.dimension:
        raise DataError(
            f"the query's features have {amount(query.dimension, 'dimension')}, the gallery's {gallery.dimension}",
            hint="both must come from the same network",
            file=query.source,
        )
    one, other = query.identity, gallery.identity
    if one is not None and other is not None and dict(one) != dict(other):
        field = next(key for key in (*one, *other) if one.get(key) != other.get(key))
        raise DataError(
            f"query and gallery were made differently: {field} is '{one.get(field)}' and '{other.get(field)}'",
            hint="extract both with the same architecture, weights and transform",
            file=query.source,
        )
    if (query.trial, query.trial_seed) != (gallery.trial, gallery.trial_seed):
        raise DataError(
            "query and gallery belong to different trials",
            hint="rank the two sets that one call of split_trial returns",
            file=query.source,
        )


def _other_precision(identity: Mapping[str, str]) -> str | None:
    """What the network computed in; None for fp32."""
    precision = identity.get("precision")
    return None if precision == "fp32" else precision


def _describe(query: FeatureSet, left: ItemImages, right: ItemImages, *, options: RankingOptions) -> RankingFacts:
    gallery = right.features
    from_gallery = _whole_tracks(query, options) or query.trial is not None or query.protocol == "every-track"
    rerank = options.model_dump(include={"k1", "k2", "lambda_value"})
    if options.candidates is not None:
        rerank["candidates"] = options.candidates  # the pool of each query
    lengths = {str(name): int(n) for name, n in zip(left.items.items.ids, left.items.lengths, strict=True)}
    return RankingFacts(
        dataset=gallery.dataset or query.dataset,
        track_unit=None if options.task == "i2i" else options.track_unit,
        query_source="gallery" if from_gallery else "query",
        query_identity=query.identity,
        gallery_identity=gallery.identity,
        query_version=query.version,
        gallery_version=gallery.version,
        weights=gallery.weights or query.weights,
        precision=_other_precision(gallery.identity or query.identity or {}),
        coverage=_coverage(left.items.items, right.items.items, options),
        gallery_size=len(right),
        query_count=len(left),
        trial=query.trial,
        trial_seed=query.trial_seed,
        rerank=rerank if options.rerank else None,
        query_lengths=lengths if options.task == "t2t" else {},
        selves=find_selves(left.features, left.items, gallery=gallery, items=right.items),
        **options.model_dump(include=_RECORDED),
    )


def _coverage(queries: Items, gallery: Items, options: RankingOptions) -> Coverage:
    if options.no_match or options.candidates is not None:
        return "top-k"
    whole = options.top_k is None or options.top_k >= len(gallery)
    if whole and options.threshold is None and options.min_probability is None:
        return "full"
    labelled = all(any(vehicle is not None for vehicle in items.vehicles) for items in (queries, gallery))
    return "positives" if labelled else "top-k"
