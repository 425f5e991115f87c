"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.table import Column, Table
from rich.text import Text

from vreid_cli.evaluation.comparison import Comparison, Spread, TrialScores
from vreid_cli.evaluation.evaluate import LABELS, Evaluation
from vreid_cli.evaluation.scores import MeanScores
from vreid_cli.evaluation.thresholds import FALSE_MATCH_RATES
from vreid_cli.ranking.pairs import number
from vreid_cli.reports.names import Evaluations, names_of, network_of
from vreid_cli.types.amounts import amount
from vreid_cli.types.rankings import NO_MATCH, RankedItem, RankingFacts, said_of

if TYPE_CHECKING:
    from vreid_cli.reports.pairs import PairView

#: Facts are folded to this width before a score is left out.
_FOLDED = 12
_WIDEST = 10_000
#: The last to go of a narrow terminal: the first two ranks, which are the paper's.
_RANKS_KEPT = 2
#: Rows that a table may have before it shows those that say most; --json always holds all.
_LONG = 20
#: A false-match rate that nobody would choose a threshold by.
_COARSE = 0.05
_COMPARED = "the same queries paired, vehicles resampled; p by flipping signs of vehicles, not corrected for many"
_JUNK = {
    "drop": "the query itself and junk (its vehicle by its own camera) left out (--same-camera drop)",
    "keep": "only the query itself left out (--same-camera keep)",
}
#: Whether an item shows the query's vehicle.
_MARKS = {True: Text("✓ yes", "green"), False: Text("✗ no", "red"), None: Text("?")}

# -- scores --------------------------------------------------------------------------------------------------


def evaluation_table(results: Evaluations, *, width: int | None = None) -> Table:
    """Scores of several rankings in percent, a row each.

    Facts that all rows share stand below the table once; the others get a column. Rankings that no fact tells
    apart are named by their files.

    Args:
        results: The evaluations by the path of their ranking.
        width: Characters in a line; scores that are needed least are left out, and named, where it is too small.
    """
    every = [one.facts for one in results.values()]
    headings = {name: one.heading for name, one in RankingFacts.declared().items() if one.heading is not None}
    texts = {name: [facts.text(name) for facts in every] for name in headings}
    shared = [name for name in texts if name != "metric" and len(set(texts[name])) == 1]
    names = ["metric", *(name for name in texts if name not in (*shared, "metric"))]
    facts = {headings[name]: texts[name] for name in names}
    if len(set(zip(*facts.values(), strict=True))) < len(results):
        facts["ranking"] = list(results)
    evaluations = list(results.values())
    scores = {
        "mAP": [_mean_with_interval(one) for one in evaluations],
        "mINP": [percent(one.mean_inp) for one in evaluations],
        **{f"rank-{rank}": [percent(one.cmc[rank]) for one in evaluations] for rank in evaluations[0].cmc},
        "valid/total": [f"{one.valid_queries:,}/{one.total_queries:,}" for one in evaluations],
    }
    left_out = _too_wide(facts, scores, width)
    kept = {heading: cells for heading, cells in scores.items() if heading not in left_out}
    table = make_table(
        None,
        _caption(results, said_of(every, shared), left_out=left_out),
        *(Column(head, overflow="fold", min_width=min(_FOLDED, *map(len, cells))) for head, cells in facts.items()),
        *(Column(heading, justify="right", no_wrap=True) for heading in kept),
    )
    for row in zip(*facts.values(), *kept.values(), strict=True):
        table.add_row(*map(Text, row))
    return table


def _too_wide(
    facts: Mapping[str, Sequence[str]], scores: Mapping[str, Sequence[str]], width: int | None
) -> Sequence[str]:
    """Headings of scores for which a line has no room: CMC from its end, then mINP."""

    def needs(columns: Mapping[str, Sequence[str]], *, most: int) -> int:
        # Each column has a border and a space on either side.
        return sum(min(most, max(map(len, (heading, *cells)))) + 3 for heading, cells in columns.items())

    # Numbers do not wrap, and would leave no room for what they are about.
    room = (width or _WIDEST) - 1 - needs(facts, most=_FOLDED)
    ranks = [heading for heading in scores if heading.startswith("rank-")]
    order = [*reversed(ranks[_RANKS_KEPT:]), "mINP", *reversed(ranks[1:_RANKS_KEPT])]
    left_out: list[str] = []
    while order and needs({h: cells for h, cells in scores.items() if h not in left_out}, most=_WIDEST) > room:
        left_out.append(order.pop(0))
    return [heading for heading in scores if heading in left_out]


def _caption(results: Evaluations, facts: Iterable[str], *, left_out: Sequence[str]) -> Text:
    """What all rows have in common, and the rules that they were counted by."""
    options = next(iter(results.values())).options
    rules = [f"AP rule {options.ap}", _JUNK[options.same_camera], *_truths(results)]
    counted = "all labelled queries" if options.without_positive == "zero" else "the valid queries"
    vehicles = " / ".join(dict.fromkeys(amount(one.intervals.vehicles, "vehicle") for one in results.values()))
    sure = f"± half of the 95% interval, {vehicles} resampled"
    narrow = [f"no room for {', '.join(left_out)} (--json holds all)"] if left_out else []
    return Text("; ".join([*facts, *rules, f"scores in %, over {counted}", sure, *narrow]))


def counted(results: Evaluations, note: str) -> Text:
    """What a table beside the main one has to say too: how its rankings were made and counted."""
    evaluations = list(results.values())
    options = evaluations[0].options
    valid = "/".join(dict.fromkeys(f"{one.valid_queries:,} of {one.total_queries:,}" for one in evaluations))
    zero = ["queries without a positive count 0"] if options.without_positive == "zero" else []
    facts = said_of(one.facts for one in evaluations)
    rules = [f"AP rule {options.ap}", f"--same-camera {options.same_camera}", *_truths(results), *zero]
    return Text("; ".join([note, *facts, *rules, f"valid queries {valid}"]))


def _truths(results: Evaluations) -> list[str]:
    """What decided what is right, where that is not the labels alone."""
    truths = list(dict.fromkeys(one.ground_truth for one in results.values()))
    return [] if truths == [LABELS] else [f"ground truth from {' or '.join(truths)}"]


def _mean_with_interval(one: Evaluation) -> str:
    interval = one.intervals.mean_ap
    return percent(one.mean_ap) + (f" ±{50 * (interval.high - interval.low):.1f}" if interval else "")


# -- beside the scores ---------------------------------------------------------------------------------------


def breakdown_tables(results: Evaluations) -> Iterator[Table]:
    """Scores of the parts of each ranking, where they were asked for."""
    names = names_of(results)
    for path, one in results.items():
        parts: dict[tuple[str, ...], Mapping[tuple[str, ...], MeanScores]] = {}
        if one.camera_pairs is not None:
            parts["camera", "query by", "gallery by"] = {tuple(pair): part for pair, part in one.camera_pairs.items()}
        if one.lengths is not None:
            parts["length", "images of the query track"] = {(str(n),): part for n, part in one.lengths.items()}
        for (by, *heads), rows in parts.items():
            numbers = _numbers("mAP", *(f"rank-{rank}" for rank in one.cmc), "queries")
            table = make_table(f"{names[path]} by {by}", counted({path: one}, "scores in %"), *heads, *numbers)
            for labels, part in rows.items():
                scores = [percent(score) for score in (part.mean_ap, *part.cmc.values())]
                table.add_row(*map(Text, labels), *scores, f"{part.valid_queries:,}")
            yield table


def comparison_tables(
    comparisons: Mapping[str, Mapping[str, Comparison | None]], results: Evaluations
) -> Iterator[Table]:
    """Differences of mAP in percentage points, with interval and p-value: a table for each ranking compared with.

    Of many rankings those of the same network and those by the same metric are shown.

    Args:
        comparisons: By the path of the ranking that is compared with, then by that of the other.
        results: The rankings that they are about.
    """
    names = names_of(results)
    for against, own in comparisons.items():
        shown, caption = own, _COMPARED
        if len(own) > _LONG:
            shown = {path: one for path, one in own.items() if _akin(results[path].facts, results[against].facts)}
            caption += f"; {len(shown)} of {len(own)}: of its network, or by its metric (--json holds all)"
        about = {path: results[path] for path in (against, *shown)}
        columns = [Column("ranking", overflow="fold")]
        columns += _numbers("difference", "95% interval", "p", "queries", "vehicles")
        table = make_table(f"mAP against {names[against]}", counted(about, caption), *columns)
        for path, one in shown.items():
            cells = ["-", "-", "-", "0", "0"]
            if one is not None:
                ends = one.interval
                interval = "-" if ends is None else f"{100 * ends.low:+.1f} to {100 * ends.high:+.1f}"
                p_value = "<0.001" if one.p_value < 0.001 else f"{one.p_value:.3f}"
                cells = [f"{100 * one.difference:+.1f}", interval, p_value, f"{one.queries:,}", f"{one.vehicles:,}"]
            table.add_row(Text(names[path]), *cells)
        yield table


def _akin(one: RankingFacts, other: RankingFacts) -> bool:
    """Whether two rankings of one task differ in the network only, or in the metric only."""
    same = network_of(one) == network_of(other) or one.metric_name == other.metric_name
    return same and one.task == other.task


def trials_table(trials: Sequence[TrialScores], results: Evaluations) -> Table:
    """Means over random trials, with their standard deviation, in percent; facts that differ get a column."""
    caption = counted(results, "± the standard deviation between trials; scores in %")
    declared = RankingFacts.declared("metric", "setting", "network")
    names = [
        name
        for name in ("metric", *(name for name in declared if name != "metric"))
        if declared[name].heading and (name == "metric" or len({one.facts.text(name) for one in trials}) > 1)
    ]
    columns = [Column(declared[name].heading or "", overflow="fold") for name in names]
    columns += _numbers("seed", "trials", "mAP", "mINP", *(f"rank-{rank}" for rank in trials[0].cmc))
    table = make_table("Mean over trials with random galleries", caption, *columns)
    for one in trials:
        cells = [Text(one.facts.text(name)) for name in names]
        scores = [_with_spread(spread) for spread in (one.mean_ap, one.mean_inp, *one.cmc.values())]
        table.add_row(*cells, str(one.facts.trial_seed), str(one.trials), *scores)
    return table


def _with_spread(spread: Spread | None) -> str:
    deviation = None if spread is None else spread.deviation
    return percent(spread.mean if spread else None) + ("" if deviation is None else f" ±{percent(deviation)}")


def error_table(results: Evaluations) -> Table | None:
    """Which distance means the same vehicle; None where no ranking says that."""
    shown: Evaluations = {path: one for path, one in results.items() if one.curve is not None}
    if not shown:
        return None
    names = names_of(results)
    caption = "d: give it to vreid rank --threshold; missed: pairs of the same vehicle that are farther"
    if len(shown) > _LONG:
        every, shown = shown, _around_the_best(shown)
        caption += f"; {len(shown)} of {len(every)}: of the best's network, or by its metric (--json holds all)"
    rates = [rate for rate in FALSE_MATCH_RATES if rate < _COARSE]
    columns = [Column("ranking", overflow="fold")]
    columns += _numbers("equal errors", *(f"{100 * rate:g}% false matches" for rate in rates))
    table = make_table("Same vehicle if no farther than d", counted(shown, caption), *columns)
    for path, one in shown.items():
        assert one.curve is not None
        equal, points = one.curve.equal_error(), one.curve.points()
        missed = (
            "-" if point is None else f"d={point.threshold:.4g}, {percent(point.miss_rate)}% missed"
            for point in (points[rate] for rate in rates)
        )
        table.add_row(Text(names[path]), f"{percent(equal.miss_rate)}% at d={equal.threshold:.4g}", *missed)
    return table


def _around_the_best(results: Evaluations) -> Evaluations:
    """Of each task what has the network or the metric of its best ranking."""
    best: dict[str | None, RankingFacts] = {}
    for one in sorted(results.values(), key=lambda one: -(one.mean_ap or 0)):
        best.setdefault(one.facts.task, one.facts)
    return {path: one for path, one in results.items() if _akin(one.facts, best[one.facts.task])}


# -- what was found ------------------------------------------------------------------------------------------


def nearest_table(query: str, items: Sequence[RankedItem]) -> Table:
    """The nearest items of one query, in rank order; probabilities, labels and a mark where they are known."""
    labelled = any(item.gallery_vehicle is not None for item in items)
    sure = any(item.probability is not None for item in items)
    labels = ("vehicle", "camera", "same vehicle") if labelled else ()
    numbers = _numbers("rank", "distance", *(["probability"] if sure else []))
    table = make_table(query, None, *numbers, Column("name", overflow="fold"), *labels)
    for item in items:
        none = item.gallery_id == NO_MATCH
        row = [Text("-" if none else str(item.rank)), Text("-" if none else f"{item.distance:.4f}")]
        row += [Text("-" if none else probability_text(item.probability))] if sure else []
        row.append(Text(item.gallery_id))
        if labelled:
            known = (item.gallery_vehicle, item.gallery_camera)
            row += [*(Text("unknown" if label is None else label) for label in known), _MARKS[item.same_vehicle]]
        table.add_row(*row)
    return table


def pair_table(view: PairView) -> Table:
    """The distances of one match, image by image; what decides in bold and with a mark."""
    pair = view.distances
    weights = pair.shows == "code"
    caption = "weights of gallery images" if weights else f"{pair.shows}; * what decides"
    heads = (str(place + 1) for place in range(pair.cells.shape[1]))
    table = make_table(None, Text(caption), "", *_numbers(*heads))
    for place, (cells, counts) in enumerate(zip(pair.cells, pair.counts, strict=True), start=1):
        row = (
            Text(f"{number(cell)}*", style="bold") if count else Text(f"{number(cell)} ")
            for cell, count in zip(cells.tolist(), counts.tolist(), strict=True)
        )
        table.add_row(str(place), *row)
    return table


def percent(fraction: float | None) -> str:
    """A fraction in percent with one decimal; a dash where there is none.

    Examples:
        >>> percent(0.4567), percent(None)
        ('45.7', '-')
    """
    return "-" if fraction is None else f"{100 * fraction:.1f}"


def probability_text(probability: float | None) -> str:
    """A probability in percent, never more certain than its digits.

    Examples:
        >>> probability_text(0.934), probability_text(0.00001), probability_text(0.99999), probability_text(None)
        ('93%', '<0.1%', '>99.9%', '-')
    """
    if probability is None:
        return "-"
    if probability < 0.001:
        return "<0.1%"
    if probability > 0.999:
        return ">99.9%"
    return f"{100 * probability:.0f}%" if 0.095 <= probability < 0.985 else f"{100 * probability:.1f}%"


def make_table(title: str | None, caption: Text | None, *columns: Column | str) -> Table:
    """A table with title and caption at the left."""
    # Names are Text, so that a [b] in one is shown and no markup.
    named = None if title is None else Text(title)
    return Table(*columns, title=named, title_justify="left", caption=caption, caption_justify="left")


def _numbers(*headings: str) -> list[Column]:
    return [Column(heading, justify="right") for heading in headings]
