"""Two feature sets to rankings: the functions that notebooks and the command line share.

:func:`rank` is all that a notebook needs. It plans a :class:`RankingJob`, and collects what :func:`rank_blocks` yields;
the command writes the same blocks to files as they come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from vreid_cli.errors import DataError, DeviceError, UsageError, require_type
from vreid_cli.ranking.answers import AnswerRules, with_no_match
from vreid_cli.ranking.candidates import CandidateFinder, ImageSearch, candidate_blocks, choose_indexes, group_by_space
from vreid_cli.ranking.diagnostics import Diagnostics, warnings_of
from vreid_cli.ranking.engine import Block, BlockDistances, DistanceEngine, ItemImages, plan_engine
from vreid_cli.ranking.metrics import DISTANCES, Metric, parse_metrics
from vreid_cli.ranking.options import RankingOptions
from vreid_cli.ranking.reranking import encode_pool, join_sides, rerank
from vreid_cli.ranking.selection import ListRules, RankedBlock, distances_of, keep_nearest, merge_nearest, sort_whole
from vreid_cli.ranking.shards import ShardedGallery, Sides, Workers
from vreid_cli.ranking.tracks import find_selves, group_tracks, image_items, query_tracks_in
from vreid_cli.runtime.devices import choose_device
from vreid_cli.runtime.memory import memory_budget
from vreid_cli.runtime.options import RuntimeOptions
from vreid_cli.types.calibrations import Calibration
from vreid_cli.types.features import MEANINGLESS, FeatureSet
from vreid_cli.types.index import Geometry
from vreid_cli.types.rankings import Coverage, Ranking, RankingBlock, RankingFacts, choose_fitting
from vreid_cli.types.tracks import Items

#: From how rankings are made to what gives their distances probabilities, by metric.
CalibrationChooser = Callable[[Sequence[RankingFacts]], Mapping[str, Calibration]]
#: Part of the memory budget that the lists of a block of queries may take.
_LISTS = 1 / 4
#: With fewer queries at a time than this, reading the gallery again for each block costs more than merging.
_FEW_QUERIES = 256


@dataclass(frozen=True)
class RankingJob:
    """Both sides gathered and checked, before any distance is computed; made by :func:`plan_ranking`.

    Attributes:
        query: The queries.
        gallery: The gallery.
        metrics: What to rank by.
        options: How.
        budget: Bytes for working arrays.
        product: Path of the matrix products, or ``auto``.
        facts: How the rankings are made, but for the metric.
        warnings: What concerns the rankings by every metric.
        calibrations: What gives the distances of a metric probabilities, by the metric's name.
        indexes: What proposes candidates, by what is near; none where every item is ranked.
    """

    query: ItemImages
    gallery: ItemImages
    metrics: tuple[Metric, ...]
    options: RankingOptions
    budget: int
    product: str
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


def rank(
    query: FeatureSet,
    gallery: FeatureSet,
    options: RankingOptions | None = None,
    *,
    runtime: RuntimeOptions | None = None,
    calibrations: Sequence[Calibration] = (),
    indexes: Sequence[ImageSearch] = (),
) -> dict[str, Ranking]:
    """Rank the gallery for every query, in memory; all that ``vreid rank`` does but for its files.

    The query tracks of data sets whose protocol is ``gallery-tracks`` (VeRi) are the gallery tracks that hold a query
    image.

    Args:
        query: (N_q, D) features of the queries.
        gallery: (N_r, D) features of the gallery.
        options: What to do; by default meanMCD50 between tracks.
        runtime: Device and memory.
        calibrations: From :func:`vreid_cli.calibrate`; each gives probabilities to the rankings that it was made for.
        indexes: From :func:`vreid_cli.build_index` of the gallery; ``options.candidates`` needs them.

    Returns:
        A ranking for each metric, by the metric's name, with its warnings.

    Raises:
        UsageError: A metric is unknown, or the options contradict each other.
        DataError: The sides do not fit each other, one is empty, or labels that are needed are missing.
        DeviceError: The device is not there.

    Example:
        >>> import numpy as np
        >>> import vreid_cli as vreid
        >>> query = vreid.FeatureSet.from_arrays(np.array([[1.0, 0.0]]), track_id=["q"])
        >>> gallery = vreid.FeatureSet.from_arrays(np.array([[0.0, 1.0], [1.0, 1.0]]), track_id=["a", "b"])
        >>> ranking = vreid.rank(query, gallery)["meanMCD50"]
        >>> [ranking.gallery.ids[item] for item in next(iter(ranking.blocks)).gallery_index]
        ['b', 'a']
    """
    choose = partial(choose_fitting, calibrations)
    return collect(plan_ranking(query, gallery, options, runtime=runtime, choose=choose, indexes=indexes))


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
        warnings.append(f"{len(lost)} query images are in no gallery track and were left out: {first}")
    if facts.meaningless:
        warnings.append(MEANINGLESS)
    budget = memory_budget(runtime.memory_budget_mb, device)
    fitting = choose([_facts_by(facts, metric, options) for metric in metrics])
    _check_answers(options, metrics, fitting, size=len(right))
    chosen = _choose_indexes(indexes, metrics, options, gallery=gallery)
    return RankingJob(left, right, metrics, options, budget, runtime.product, facts, tuple(warnings), fitting, chosen)


def rank_blocks(
    job: RankingJob,
    *,
    advance: Callable[[int], object] = lambda items: None,
    workers: Workers | None = None,
    device: torch.device | None = None,
) -> Iterator[RankedBlock]:
    """Ranked lists by metric name, a block of queries at a time.

    Args:
        job: What to do.
        advance: Called with numbers that add up to ``job.steps``.
        workers: Compare queries with shards of the gallery; None for this process.
        device: Where workers compute; None for where the job would.

    Yields:
        The lists of consecutive queries; the sum of their diagnostics is that of the whole.

    Raises:
        DataError: A feature is not finite, or a distance too large for float32.
        UsageError: Workers cannot re-rank.
    """
    if job.options.candidates is not None:
        yield from _rank_candidates(job, advance)
        return
    if workers is not None:
        yield from _rank_in_shards(job, workers, device, advance=advance)
        return
    yield from _rank_here(job, advance)


def _rank_here(job: RankingJob, advance: Callable[[int], object]) -> Iterator[RankedBlock]:
    """Ranked lists as :func:`rank_blocks` yields them, from distances that this process computes."""
    most, merge = _block_size(job)
    engine = _engine(job, job.query, job.gallery)
    # Then each image of the gallery is read once.
    once = not merge and not job.options.rerank and len(list(engine.query.cut(rows=engine.rows[0], most=most))) == 1
    engine = engine if once else engine.looked_over()
    codes = {}
    if job.options.rerank:
        pool = join_sides(job.query, job.gallery)
        whole = _engine(job, pool, pool).looked_over()
        codes = encode_pool(whole, queries=len(job.query), options=job.options, advance=advance)
    rules = ListRules(job.query.items.items, job.gallery.items.items, job.options)
    cut = _answers(job)
    # An image that is on both sides counts once.
    same = job.query.features is job.gallery.features
    zero_vectors = engine.zero_vectors
    for block in engine.query_blocks(most=most):
        parts: Iterable[BlockDistances]
        if once:
            part, zero_vectors = engine.look_and_compare(block)
            parts = [part]
        else:
            parts = engine.against(block)
        if codes:
            weight = job.options.lambda_value
            parts = rerank(block.positions, parts, pool=codes, size=len(job.gallery), weight=weight)
        if merge:
            ranked = _merged(engine, rules, block, parts=parts)
        else:
            ranked = sort_whole(rules, block.positions, parts, size=len(job.gallery), threads=engine.threads)
        zero_vectors += 0 if same else block.zero_vectors
        yield RankedBlock(cut(ranked.by_metric, block.positions), ranked.diagnostics + Diagnostics(zero_vectors))
        zero_vectors = 0
        advance(len(block.positions))


def _rank_in_shards(
    job: RankingJob, workers: Workers, device: torch.device | None, *, advance: Callable[[int], object]
) -> Iterator[RankedBlock]:
    """Ranked lists as :func:`rank_blocks` yields them, whose distances workers compute."""
    if job.options.rerank:
        raise UsageError("--rerank compares all with all, on one machine", hint="leave out --engine")
    sides = Sides(job.query, job.gallery, job.metrics, job.options, job.budget, job.product)
    gallery = ShardedGallery(sides, workers=workers, device=device or job.gallery.device)
    cut = _answers(job)
    most, merge = _block_size(job)
    # An image that is on both sides counts once.
    same = job.query.features is job.gallery.features
    noticed = Diagnostics(zero_vectors=gallery.zero_vectors)
    for queries, ranked, zero_vectors in gallery.nearest() if merge else gallery.whole(most=most):
        noticed += ranked.diagnostics + Diagnostics(zero_vectors=0 if same else zero_vectors)
        yield RankedBlock(cut(ranked.by_metric, queries), noticed)
        noticed = Diagnostics()
        advance(len(queries))


def _rank_candidates(job: RankingJob, advance: Callable[[int], object]) -> Iterator[RankedBlock]:
    """The lists of what the indexes propose."""
    sides, options = (job.query.items.items, job.gallery.items.items), job.options
    engines = []
    for space, metrics in group_by_space(job.metrics).items():
        finder = CandidateFinder.make(
            job.indexes[space],
            job.queries,
            job.gallery,
            count=options.candidates or 1,
            other_cameras=options.cameras == "other",
        )
        engine = plan_engine(
            job.query, job.gallery, metrics=metrics, options=options, budget=job.budget, product=job.product
        )
        engines.append((finder, engine))
    cut = _answers(job)
    for positions, ranked in candidate_blocks(job.query, engines, ListRules(*sides, options)):
        yield RankedBlock(cut(ranked.by_metric, positions), ranked.diagnostics)
        advance(len(positions))


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


def collect(job: RankingJob) -> dict[str, Ranking]:
    """The rankings of a job in memory, by the metric's name."""
    blocks: dict[str, list[RankingBlock]] = {metric.name: [] for metric in job.metrics}
    sides, diagnostics = (job.queries, job.listed), Diagnostics()
    for ranked in rank_blocks(job):
        diagnostics += ranked.diagnostics
        for name, block in ranked.by_metric.items():
            blocks[name].append(block)
    return {
        metric.name: Ranking(
            job.facts_by(metric), *sides, tuple(blocks[metric.name]), job.warnings_by(metric, diagnostics)
        )
        for metric in job.metrics
    }


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
            f"rank.expected {options.expected:g}: the gallery has {size:,} items, and fewer must show the vehicle",
            hint="1 where each vehicle passes once more, 0.5 where every second one does",
        )


def _choose_indexes(
    indexes: Sequence[ImageSearch], metrics: Sequence[Metric], options: RankingOptions, *, gallery: FeatureSet
) -> dict[Geometry, ImageSearch]:
    """The index of each space that candidates are looked for in; errors of :func:`choose_indexes`."""
    if options.candidates is None:
        return {}
    return choose_indexes(indexes, metrics, images=len(gallery))


def _answers(
    job: RankingJob,
) -> Callable[[Mapping[str, RankingBlock], range], Mapping[str, RankingBlock]]:
    """What leaves out of lists what is no answer; nothing, where all that is listed is one."""
    if job.options.min_probability is None and not job.options.no_match:
        return lambda blocks, _: blocks
    sides = (job.query.items.items, job.gallery.items.items)
    rules = AnswerRules(*sides, selves=job.facts.selves, no_match=job.options.no_match)
    farthest = {metric.name: job.farthest_by(metric) for metric in job.metrics}
    return lambda blocks, queries: {
        name: rules(block, queries, farthest=farthest[name]) for name, block in blocks.items()
    }


def _engine(job: RankingJob, query: ItemImages, gallery: ItemImages) -> DistanceEngine:
    return plan_engine(query, gallery, metrics=job.metrics, options=job.options, budget=job.budget, product=job.product)


def _block_size(job: RankingJob) -> tuple[int, bool]:
    """Queries that may be compared at a time, and whether their lists are merged while the gallery goes by."""
    # What an item takes while a query's distances to it are kept (re-ranking keeps a second one for each), and one is
    # sorted and handed on.
    each = 4 * len(job.metrics) * (2 if job.options.rerank else 1) + 48
    most = max(1, int(job.budget * _LISTS / (len(job.gallery) * each)))
    limited = job.options.top_k is not None and job.options.top_k < len(job.gallery)
    if limited and not job.options.rerank and most < min(_FEW_QUERIES, len(job.query)):
        return len(job.query), True
    return most, False


def _merged(engine: DistanceEngine, rules: ListRules, block: Block, *, parts: Iterable[BlockDistances]) -> RankedBlock:
    """The nearest of the gallery, whose same-vehicle items are looked up first."""
    pairs = rules.pairs(block.positions)
    known = distances_of(engine, block, pairs)
    kept = keep_nearest(rules, block.positions, parts, pairs=pairs, known=known)
    return merge_nearest(rules, block.positions, [kept], pairs=pairs, known=known)


def _query_side(query: FeatureSet, gallery: ItemImages, options: RankingOptions) -> tuple[ItemImages, list[str]]:
    """The query items, and the ids of query images that are in no gallery track where whole tracks are wanted."""
    if not _whole_tracks(query, options):
        items = group_tracks(query, options.track_unit) if options.task == "t2t" else image_items(query)
        return ItemImages(query, items, gallery.device), []
    tracks, lost = query_tracks_in(gallery.features, gallery.items, query)
    if not len(tracks):
        raise DataError(
            f"none of the {len(query)} query images is in the gallery, so there is no query track",
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
            f"the query's features have {query.dimension} dimensions, the gallery's {gallery.dimension}",
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
    rerank = {name: getattr(options, name) for name in ("k1", "k2", "lambda_value")}
    if options.candidates is not None:
        rerank["candidates"] = options.candidates  # the pool of each query
    lengths = {str(name): int(n) for name, n in zip(left.items.items.ids, left.items.lengths, strict=True)}
    return RankingFacts(
        dataset=gallery.dataset or query.dataset,
        task=options.task,
        definition=options.definition,
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
        cameras=options.cameras,
        candidates=options.candidates,
        top_k=options.top_k,
        threshold=options.threshold,
        min_probability=options.min_probability,
        no_match=options.no_match,
        rerank=rerank if options.rerank else None,
        query_lengths=lengths if options.task == "t2t" else {},
        selves=find_selves(left.features, left.items, gallery=gallery, items=right.items),
    )


def _coverage(queries: Items, gallery: Items, options: RankingOptions) -> Coverage:
    if options.no_match or options.candidates is not None:
        return "top-k"
    whole = options.top_k is None or options.top_k >= len(gallery)
    if whole and options.threshold is None and options.min_probability is None:
        return "full"
    labelled = all(any(vehicle is not None for vehicle in items.vehicles) for items in (queries, gallery))
    return "positives" if labelled else "top-k"
