"""The paper's table: metrics against networks, a grid for each task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from rich.table import Column, Table
from rich.text import Text

from vreid_cli.evaluation.evaluate import Evaluation
from vreid_cli.ranking.metrics import metric_order
from vreid_cli.reports.names import Evaluations, Network, enumerate_some, names_of, network_labels, network_of
from vreid_cli.reports.tables import counted, make_table, percent

_TITLES = {"t2t": "Track to track", "i2t": "Image to track", "i2i": "Image to image"}
#: The paper's rank-1 and rank-5; of other --ranks the first two.
_RANKS_SHOWN = 2
_BEST = "*"


@dataclass(frozen=True, eq=False)
class MetricGrid:
    """Rankings that differ in nothing but network and metric.

    Attributes:
        networks: The columns.
        metrics: The rows.
        cells: The paths of the rankings, by metric and network.
    """

    networks: tuple[Network, ...]
    metrics: tuple[str, ...]
    cells: Mapping[tuple[str, Network], str]


def make_grids(results: Evaluations) -> tuple[list[MetricGrid], list[str]]:
    """Gather evaluations into grids of two networks and more.

    Args:
        results: The evaluations by the path of their ranking.

    Returns:
        The grids, in the order in which their first ranking came; and the rankings that stand in none, because no
        other network was ranked and counted that way or because their cell was taken.
    """
    groups: dict[str, dict[tuple[str, Network], str]] = {}
    left = []
    for path, one in results.items():
        network, metric = network_of(one.facts), one.facts.metric_name
        if network is None or metric is None or one.facts.trial is not None:
            left.append(path)
            continue
        cells = groups.setdefault(repr(_shared(one)), {})
        if cells.setdefault((metric, network), path) != path:
            left.append(path)
    grids = []
    for cells in groups.values():
        networks = tuple(dict.fromkeys(network for _, network in cells))
        if len(networks) < 2:
            left += cells.values()
            continue
        rows = {metric: _place(results[path]) for (metric, _), path in cells.items()}
        grids.append(MetricGrid(networks, tuple(sorted(rows, key=rows.__getitem__)), cells))
    return grids, left


def _shared(one: Evaluation) -> dict[str, object]:
    """What all rankings of one grid share: their items, and the rules.

    The counts are among it because two data sets of one name, or a run that skipped an image, show in nothing else.
    """
    facts, options = one.facts, one.options
    counts = ("total_queries", "valid_queries", "positives", "junk", "ground_truth")
    return {
        **{name: getattr(facts, name) for name in facts.declared("setting", "size")},
        **{name: getattr(one, name) for name in counts},
        "ap_rule": options.ap,
        "same_camera": options.same_camera,
        "without_positive": options.without_positive,
    }


def _place(one: Evaluation) -> tuple[int, float]:
    """Rows are in the paper's order; metrics that it does not know come last."""
    metric, order = one.facts.metric, metric_order()
    return order.index(metric) if metric in order else len(order), one.facts.alpha or 0


def grid_tables(results: Evaluations) -> Iterator[Table]:
    """The paper's table, where there are rankings of several networks: scores in percent, a grid for each task."""
    grids, left = make_grids(results)
    labels, names = network_labels(one.facts for one in results.values()), names_of(results)
    for number, grid in enumerate(grids, start=1):
        note = f"scores in %, {_BEST} the network's best metric"
        if left and number == len(grids):
            missing = enumerate_some(names[path] for path in left)
            note += f"; in no grid: {missing} (no other network ranked and counted so, or twice there)"
        yield _grid_table(grid, {path: results[path] for path in grid.cells.values()}, labels=labels, note=note)


def why_no_grid(results: Evaluations) -> str | None:
    """What keeps rankings of several networks from a grid; None where there is one, or none to be expected."""
    grids, left = make_grids(results)
    if grids:
        return None
    names = names_of(results)
    for one, other in combinations(left, 2):
        first, second = results[one], results[other]
        networks = network_of(first.facts), network_of(second.facts)
        alike = (first.facts.task, first.facts.metric_name) == (second.facts.task, second.facts.metric_name)
        there, here = _shared(first), _shared(second)
        differing = [key for key in there if there[key] != here[key]]
        if alike and differing and None not in networks and networks[0] != networks[1]:
            key = differing[0]
            differ = f"differ in {key.replace('_', ' ')}: {there[key]} and {here[key]}"
            return f"no grid of metrics by networks: {names[one]} and {names[other]} {differ}"
    return None


def _grid_table(grid: MetricGrid, results: Evaluations, *, labels: Mapping[Network, Sequence[str]], note: str) -> Table:
    first = next(iter(results.values()))
    table = make_table(
        f"{_TITLES.get(first.facts.task or '', 'Rankings')}: metrics by networks",
        counted(results, note),
        *(Column(heading, no_wrap=True) for heading in ("score", "metric")),
        *(Column(Text("\n".join(labels[network])), justify="right", overflow="fold") for network in grid.networks),
    )
    sections = {"mAP": {place: results[path].mean_ap for place, path in grid.cells.items()}}
    for rank in list(first.cmc)[:_RANKS_SHOWN]:
        sections[f"rank-{rank}"] = {place: results[path].cmc[rank] for place, path in grid.cells.items()}
    for head, scores in sections.items():
        for place, (metric, cells) in enumerate(_section(grid, scores)):
            table.add_row("" if place else head, Text(metric), *cells)
        table.add_section()
    return table


def _section(grid: MetricGrid, scores: Mapping[tuple[str, Network], float | None]) -> Iterator[tuple[str, list[Text]]]:
    """One score of all cells, row by row; the best of a network with a mark, which is seen where bold is not."""
    known = {
        network: [score for metric in grid.metrics if (score := scores.get((metric, network))) is not None]
        for network in grid.networks
    }
    for metric in grid.metrics:
        row = []
        for network in grid.networks:
            score = scores.get((metric, network))
            # Of a single score there is no best.
            is_best = score is not None and len(known[network]) > 1 and score == max(known[network])
            row.append(Text(f"{percent(score)}{_BEST}", style="bold") if is_best else Text(f"{percent(score)} "))
        yield metric, row
