"""Two feature sets to rankings: the functions that notebooks and the command line share.

:func:`rank` is all that a notebook needs. It plans a :class:`~vreid_cli.ranking.planning.RankingJob`, and collects what
:func:`rank_blocks` yields; the command writes the same blocks to files as they come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch

from vreid_cli.errors import UsageError
from vreid_cli.ranking.answers import AnswerRules
from vreid_cli.ranking.candidates import CandidateFinder, ImageSearch, candidate_blocks, group_by_space, rank_items
from vreid_cli.ranking.diagnostics import Diagnostics
from vreid_cli.ranking.engine import Block, BlockDistances, DistanceEngine
from vreid_cli.ranking.options import RankingOptions
from vreid_cli.ranking.planning import RankingJob, plan_ranking
from vreid_cli.ranking.reranking import encode_pool, join_sides, rerank
from vreid_cli.ranking.selection import ListRules, RankedBlock, distances_of, keep_nearest, merge_nearest, sort_whole
from vreid_cli.ranking.shards import ShardedGallery, Workers
from vreid_cli.ranking.shortlists import can_be_short, shortlists
from vreid_cli.runtime.options import RuntimeOptions
from vreid_cli.runtime.threads import one_thread
from vreid_cli.types.calibrations import Calibration
from vreid_cli.types.features import FeatureSet
from vreid_cli.types.rankings import Ranking, RankingBlock, choose_fitting

#: Part of the memory budget that the lists of a block of queries may take.
_LISTS = 1 / 4
#: With fewer queries at a time than this, reading the gallery again for each block costs more than merging.
_FEW_QUERIES = 256
#: Part of the gallery up to which shortlists are compared item by item; beyond it all are compared.
_SHORT = 1 / 4


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
    engine = job.plan()
    # Then each image of the gallery is read once.
    once = not merge and not job.options.rerank and len(list(engine.query.cut(rows=engine.rows[0], most=most))) == 1
    engine = engine if once else engine.looked_over()
    codes = {}
    if job.options.rerank:
        pool = join_sides(job.query, job.gallery)
        whole = replace(job, query=pool, gallery=pool).plan().looked_over()
        codes = encode_pool(whole, queries=len(job.query), options=job.options, advance=advance)
    rules = ListRules(job)
    cut = _answers(job)
    # An image that is on both sides counts once.
    same = job.query.features is job.gallery.features
    zero_vectors = engine.zero_vectors
    for block in engine.query_blocks(most=most):
        if once:
            ranked, zero_vectors = _ranked_at_once(engine, rules, block)
        else:
            parts: Iterable[BlockDistances] = engine.against(block)
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


def _ranked_at_once(engine: DistanceEngine, rules: ListRules, block: Block) -> tuple[RankedBlock, int]:
    """Lists of all queries from a gallery that is read once, and how many of its images are zero."""
    if can_be_short(engine, rules):
        with one_thread():
            items, zero_vectors = shortlists(engine, rules, block)
            if sum(map(len, items)) <= len(engine.gallery) * _SHORT:
                ranked = rank_items([(engine, items)], rules, block.positions)
                return RankedBlock(ranked.by_metric, Diagnostics()), zero_vectors
    part, zero_vectors = engine.look_and_compare(block)
    size, threads = len(engine.gallery), engine.threads
    return sort_whole(rules, block.positions, [part], size=size, threads=threads), zero_vectors


def _rank_in_shards(
    job: RankingJob, workers: Workers, device: torch.device | None, *, advance: Callable[[int], object]
) -> Iterator[RankedBlock]:
    """Ranked lists as :func:`rank_blocks` yields them, whose distances workers compute."""
    if job.options.rerank:
        raise UsageError("--rerank compares all with all, on one machine", hint="leave out --engine")
    gallery = ShardedGallery(job, workers=workers, device=device or job.gallery.device)
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
    engines = []
    for space, metrics in group_by_space(job.metrics).items():
        finder = CandidateFinder.make(
            job.indexes[space],
            job.queries,
            job.gallery,
            count=job.options.candidates or 1,
            other_cameras=job.options.cameras == "other",
        )
        engines.append((finder, replace(job, metrics=metrics).plan()))
    cut = _answers(job)
    for positions, ranked in candidate_blocks(job.query, engines, ListRules(job)):
        yield RankedBlock(cut(ranked.by_metric, positions), ranked.diagnostics)
        advance(len(positions))


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
