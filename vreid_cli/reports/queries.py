"""Which queries of a ranking are shown, and how it was made, in words."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from math import nan

from vreid_cli.errors import DataError, UsageError, did_you_mean
from vreid_cli.evaluation.evaluate import Evaluation
from vreid_cli.reports.options import ShowOptions
from vreid_cli.types.rankings import Ranking, RankingFacts
from vreid_cli.types.truth import SameCamera

_LEFT_OUT = {
    "drop": "the query itself and what its own camera saw of its vehicle",
    "keep": "the query itself only",
}


def choose_queries(
    ranking: Ranking,
    names: str | Sequence[str] | None,
    *,
    most: int,
    options: ShowOptions | None = None,
    scores: Evaluation | None = None,
) -> list[str]:
    """Queries of a ranking by their names, in which ``*`` and ``?`` stand for anything; without names the first.

    Args:
        ranking: The ranking.
        names: Their names; None for all.
        most: How many at most, where none is named and none is chosen by its score.
        options: ``worst`` and ``best`` keep those of the lowest and the highest AP, the worst first.
        scores: The ranking's scores, which that needs.

    Raises:
        UsageError: A name fits no query; or there are no scores to choose by.
        DataError: The ranking lists nothing for any query.
    """
    if options is None or not options.by_score:
        return _named(ranking, names, most=most)
    if scores is None or not scores.valid_queries or scores.facts.coverage == "top-k":
        cut = scores is not None and scores.facts.coverage == "top-k"
        why = "only the nearest are listed, so AP is unknown" if cut else "no query has a known positive"
        raise UsageError(f"--worst and --best choose by AP: {why}", hint="name the queries to show")
    known = dict(zip(scores.queries.query_ids, scores.queries.average_precision, strict=True))
    chosen = [name for name in _named(ranking, names, most=len(ranking.queries)) if known.get(name, nan) >= 0]
    rising = sorted(chosen, key=known.__getitem__)
    worst, best = options.worst or 0, options.best or 0
    return rising if worst + best >= len(rising) else [*rising[:worst], *rising[len(rising) - best :]]


def _named(ranking: Ranking, names: str | Sequence[str] | None, *, most: int) -> list[str]:
    known = list(ranking.queries.ids)
    if not known:
        hint = "make it again, with a larger --threshold, a smaller --min-probability, or --cameras all"
        message = f"{ranking.source} lists nothing for any query (lists {ranking.facts.text('coverage')})"
        raise DataError(message, hint=hint, file=ranking.source)
    if not names:
        return known[:most]
    chosen: dict[str, None] = {}
    for name in [names] if isinstance(names, str) else names:
        matches = [name] if name in known else fnmatch.filter(known, name)
        if not matches:
            some = ", ".join([query for query in known if query.startswith(name)][:5] or known[:5])
            many = f"such as {some}, … ({len(known)} queries; * and ? stand for anything)"
            hint = did_you_mean(name, known) if len(known) <= 20 else many
            raise UsageError(f"{ranking.source} has no query '{name}'", hint=hint)
        chosen |= dict.fromkeys(matches)
    return list(chosen)


def explain_ranks(facts: RankingFacts, same_camera: SameCamera) -> str:
    """How a ranking was made, and what its ranks leave out, in one line.

    Examples:
        >>> explain_ranks(RankingFacts(dataset="veri", task="i2i", definition="paper"), "keep")
        'dataset veri; task i2i; definition paper; ranks leave out the query itself only (--same-camera keep)'
    """
    left_out = f"ranks leave out {_LEFT_OUT[same_camera]} (--same-camera {same_camera})"
    return "; ".join((*facts.in_words(), left_out))
