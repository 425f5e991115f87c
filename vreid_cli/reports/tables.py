"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from vreid_cli.reports.names import metric_name, network_of, ranking_names
from vreid_cli.types.rankings import RankedItem

#: Facts of a ranking that everything a person reads must name: key, and heading.
_FACTS = {
    "dataset": "dataset",
    "task": "task",
    "track_unit": "track unit",
    "definition": "definition",
    "cameras": "cameras",
    "architecture": "architecture",
    "weights": "weights",
    "rerank": "re-ranking",
    "trial": "trial",
}
_BREAKDOWNS = {
    "by_camera": {"query_camera": "query by", "gallery_camera": "gallery by"},
    "by_length": {"images": "images of the query track"},
}
#: Said beside a table only where a ranking differs from what is usual.
_UNUSUAL = {"cameras": "all", "rerank": "none"}
#: Facts are folded to this width before a score is left out.
_FOLDED = 12
_WIDEST = 10_000
#: The last to go of a narrow terminal: the first two ranks, which are the paper's.
_RANKS_KEPT = 2
#: Rows that a table may have before it tells the most telling ones only; --json always holds all.
_LONG = 20
#: A false-match rate that nobody would choose a threshold by.
_COARSE = 0.05
_COMPARED = "the same queries paired, vehicles drawn again; p by flipping signs of vehicles, not corrected for many"
_JUNK = {
    "drop": "the query itself and junk (its vehicle by its own camera) left out (--same-camera drop)",
    "keep": "only the query itself left out (--same-camera keep)",
}


def evaluation_table(results: Sequence[Mapping[str, Any]], *, width: int | None = None) -> Table:
    """Scores of several rankings in percent, a row each.

    Args:
        results: Objects as ``vreid evaluate --json`` prints them, all counted by the same rules.
        width: Characters in a line; scores that are needed least are left out, and named, where it is too small.

    Facts that all rows share stand below the table once; the others get a column. Rankings that no fact tells
    apart are named by their files.
    """
    shared = {key for key in _FACTS if len({_fact(result, key) for result in results}) == 1}
    keys = ["metric", *(key for key in _FACTS if key not in shared)]
    if len({tuple(_fact(result, key) for key in keys) for result in results}) < len(results):
        keys.append("ranking")
    facts = {_FACTS.get(key, key): [_fact(result, key) for result in results] for key in keys}
    scores = _score_columns(results)
    left_out = _too_wide(facts, scores, width)
    table = Table(caption=_caption(results, shared, left_out=left_out), caption_justify="left")
    for heading in facts:
        table.add_column(heading, overflow="fold", min_width=min(_FOLDED, *map(len, facts[heading])))
    kept = [heading for heading in scores if heading not in left_out]
    for heading in kept:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in zip(*facts.values(), *(scores[heading] for heading in kept), strict=True):
        table.add_row(*map(Text, row))
    return table


def _score_columns(results: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """What is told of each ranking, by heading."""
    return {
        "mAP": [_mean_with_interval(result) for result in results],
        "mINP": [percent(result["mINP"]) for result in results],
        **{f"rank-{rank}": [percent(result["cmc"][rank]) for result in results] for rank in results[0]["cmc"]},
        "valid/total": [f"{result['valid_queries']:,}/{result['total_queries']:,}" for result in results],
    }


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


def _caption(results: Sequence[Mapping[str, Any]], shared: Iterable[str], *, left_out: Sequence[str]) -> Text:
    """What all rows have in common, and the rules that they were counted by."""
    result = results[0]
    # Only one protocol has trials; of all others there is nothing to say.
    told = [key for key in _FACTS if key in shared and not (key == "trial" and result[key] is None)]
    facts = [f"{_FACTS[key]} {_fact(result, key)}" for key in told]
    rules = [f"AP rule {result['ap_rule']}", _JUNK[result["same_camera"]]]
    rules += _truths(results)
    counted = "all labelled queries" if result["without_positive"] == "zero" else "the valid queries"
    vehicles = "/".join(_unique(f"{one['intervals']['vehicles']:,}" for one in results))
    sure = f"± half of the 95% interval, {vehicles} vehicles drawn again"
    narrow = [f"no room for {', '.join(left_out)} (--json holds all)"] if left_out else []
    return Text("; ".join([*facts, *rules, f"scores in %, over {counted}", sure, *narrow]))


def counted(results: Sequence[Mapping[str, Any]], note: str) -> Text:
    """What a table beside the main one must say too: how its rankings were made and counted."""
    facts = [
        f"{_FACTS[key]} {'/'.join(_unique(_fact(result, key) for result in results))}"
        for key in ("dataset", "task", "track_unit", "definition", *_UNUSUAL)
        if key not in _UNUSUAL or {_fact(result, key) for result in results} != {_UNUSUAL[key]}
    ]
    valid = "/".join(_unique(f"{result['valid_queries']:,} of {result['total_queries']:,}" for result in results))
    rules = [f"AP rule {results[0]['ap_rule']}", f"--same-camera {results[0]['same_camera']}", *_exceptions(results)]
    return Text("; ".join([note, *facts, *rules, f"valid queries {valid}"]))


def _exceptions(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Rules that are seldom asked for, where they were."""
    zero = ["queries without a positive count 0"] if results[0]["without_positive"] == "zero" else []
    return [*_truths(results), *zero]


def _truths(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """What decided what is right, where that is not the labels alone."""
    truths = _unique(result["ground_truth"] for result in results)
    return [] if truths == ["labels"] else [f"ground truth from {' or '.join(truths)}"]


def _unique(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


def _mean_with_interval(result: Mapping[str, Any]) -> str:
    ends = result["intervals"]["mAP"]
    return percent(result["mAP"]) + (f" ±{50 * (ends[1] - ends[0]):.1f}" if ends else "")


def breakdown_tables(results: Sequence[Mapping[str, Any]]) -> Iterator[Table]:
    """Scores of the parts of each ranking, where they were asked for."""
    names = ranking_names(results)
    for result in results:
        for key, heads in _BREAKDOWNS.items():
            parts = result[key]
            if parts is None:
                continue
            table = Table(
                title=Text(f"{names[result['ranking']]} by {key[3:]}"),
                title_justify="left",
                caption=counted([result], "scores in %"),
                caption_justify="left",
            )
            for head in heads.values():
                table.add_column(head)
            for head in ("mAP", *(f"rank-{rank}" for rank in result["cmc"]), "queries"):
                table.add_column(head, justify="right")
            for part in parts:
                scores = [part["mAP"], *part["cmc"].values()]
                labels = [Text(str(part[name])) for name in heads]
                table.add_row(*labels, *(percent(score) for score in scores), f"{part['queries']:,}")
            yield table


def comparison_tables(
    comparisons: Sequence[Mapping[str, Any]], results: Sequence[Mapping[str, Any]]
) -> Iterator[Table]:
    """Differences of mAP in percentage points, with interval and p-value: a table for each ranking compared with.

    Args:
        comparisons: Objects as ``vreid evaluate --json`` prints them.
        results: The rankings that they are about.

    Of many rankings those of the same network and those by the same metric are told.
    """
    names = ranking_names(results)
    by_path = {result["ranking"]: result for result in results}
    for against in _unique(comparison["against"] for comparison in comparisons):
        own = [comparison for comparison in comparisons if comparison["against"] == against]
        shown = own
        caption = (
            "the same queries paired, vehicles drawn again; p by flipping signs of vehicles, not corrected for many"
        )
        if len(own) > _LONG:
            shown = [one for one in own if _akin(by_path[one["ranking"]], by_path[against])]
            caption += f"; {len(shown)} of {len(own)}: of its network, or by its metric (--json holds all)"
        told = [by_path[against], *(by_path[one["ranking"]] for one in shown)]
        table = Table(
            title=Text(f"mAP against {names[against]}"),
            title_justify="left",
            caption=counted(told, caption),
            caption_justify="left",
        )
        table.add_column("ranking", overflow="fold")
        for head in ("difference", "95% interval", "p", "queries", "vehicles"):
            table.add_column(head, justify="right")
        for one in shown:
            table.add_row(Text(names[one["ranking"]]), *_difference(one))
        yield table


def _difference(comparison: Mapping[str, Any]) -> tuple[str, ...]:
    difference, ends, p = comparison["difference"], comparison["interval"], comparison["p_value"]
    return (
        "-" if difference is None else f"{100 * difference:+.1f}",
        "-" if ends is None else f"{100 * ends[0]:+.1f} to {100 * ends[1]:+.1f}",
        "-" if p is None else "<0.001" if p < 0.001 else f"{p:.3f}",
        f"{comparison['queries']:,}",
        f"{comparison['vehicles']:,}",
    )


def _akin(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two rankings of one task differ in the network only, or in the metric only."""
    same = network_of(one) == network_of(other) or metric_name(one) == metric_name(other)
    return same and one["task"] == other["task"]


def trials_table(trials: Sequence[Mapping[str, Any]], results: Sequence[Mapping[str, Any]]) -> Table:
    """Means over random trials, with their standard deviation, in percent; facts that differ get a column."""
    table = Table(
        title="Mean over trials with random galleries",
        title_justify="left",
        caption=counted(results, "± the standard deviation between trials; scores in %"),
        caption_justify="left",
    )
    differing = [key for key in ("architecture", "weights", "rerank") if len({_fact(one, key) for one in trials}) > 1]
    for head in ("metric", *(_FACTS[key] for key in differing)):
        table.add_column(head, overflow="fold")
    for head in ("seed", "trials", "mAP", "mINP", *(f"rank-{rank}" for rank in trials[0]["cmc"])):
        table.add_column(head, justify="right")
    for one in trials:
        facts = [Text(_fact(one, key)) for key in ("metric", *differing)]
        cells = [one["mAP"], one["mINP"], *one["cmc"].values()]
        table.add_row(*facts, str(one["trial_seed"]), str(one["trials"]), *map(_with_spread, cells))
    return table


def _with_spread(spread: Mapping[str, float | None] | None) -> str:
    if spread is None:
        return "-"
    deviation = spread["deviation"]
    return percent(spread["mean"]) + (f" ±{100 * deviation:.1f}" if deviation is not None else "")


def error_table(results: Sequence[Mapping[str, Any]]) -> Table | None:
    """Which distance means the same vehicle; None where no ranking tells."""
    told = [result for result in results if result["same_vehicle_errors"] is not None]
    if not told:
        return None
    names = ranking_names(results)
    caption = "d: give it to vreid rank --threshold; missed: pairs of the same vehicle that are farther"
    if len(told) > _LONG:
        every, told = told, _around_the_best(told)
        caption += f"; {len(told)} of {len(every)}: of the best's network, or by its metric (--json holds all)"
    table = Table(
        title="Same vehicle if no farther than d",
        title_justify="left",
        caption=counted(told, caption),
        caption_justify="left",
    )
    rates = [rate for rate in told[0]["same_vehicle_errors"]["at_false_match_rate"] if float(rate) < _COARSE]
    table.add_column("ranking", overflow="fold")
    for head in ("equal errors", *(f"{100 * float(rate):g}% false matches" for rate in rates)):
        table.add_column(head, justify="right")
    for result in told:
        errors = result["same_vehicle_errors"]
        equal = f"{percent(errors['equal_error_rate'])}% at d={errors['equal_error_threshold']:.4g}"
        points = [errors["at_false_match_rate"][rate] for rate in rates]
        cells = ["-" if p is None else f"d={p['threshold']:.4g}, {percent(p['miss_rate'])}% missed" for p in points]
        table.add_row(Text(names[result["ranking"]]), equal, *cells)
    return table


def _around_the_best(results: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Of each task what has the network or the metric of its best ranking."""
    best: dict[str | None, Mapping[str, Any]] = {}
    for result in sorted(results, key=lambda result: -(result["mAP"] or 0)):
        best.setdefault(result["task"], result)
    return [result for result in results if _akin(result, best[result["task"]])]


def _fact(result: Mapping[str, Any], key: str) -> str:
    # Single images have no track unit, which is not the same as not knowing it.
    if key == "track_unit" and result["task"] == "i2i":
        return "none"
    if key == "trial":
        return "none" if result[key] is None else str(result[key])
    if key == "rerank":
        return ", ".join(f"{name} {value:g}" for name, value in (result[key] or {}).items()) or "none"
    if key == "metric":
        return metric_name(result)
    return _text(result[key])


def nearest_table(query: str, items: Sequence[RankedItem]) -> Table:
    """The nearest items of one query, in rank order; labels and a mark where they are known."""
    labelled = any(item.gallery_vehicle is not None for item in items)
    # Names are Text, so that a [b] in one is shown and no markup.
    table = Table(title=Text(query), title_justify="left")
    table.add_column("rank", justify="right")
    table.add_column("distance", justify="right")
    table.add_column("name", overflow="fold")
    if labelled:
        for heading in ("vehicle", "camera", "same vehicle"):
            table.add_column(heading)
    for item in items:
        row = [Text(str(item.rank)), Text(f"{item.distance:.4f}"), Text(item.gallery_id)]
        if labelled:
            row += [Text(_text(item.gallery_vehicle)), Text(_text(item.gallery_camera)), _mark(item)]
        table.add_row(*row)
    return table


def percent(fraction: float | None) -> str:
    """A fraction in percent with one decimal; a dash where there is none."""
    return "-" if fraction is None else f"{100 * fraction:.1f}"


def _mark(item: RankedItem) -> Text:
    if item.query_vehicle is None or item.gallery_vehicle is None:
        return Text("?")
    same = item.query_vehicle == item.gallery_vehicle
    return Text("✓ yes", style="green") if same else Text("✗ no", style="red")


def _text(value: object) -> str:
    return "unknown" if value is None else str(value)
