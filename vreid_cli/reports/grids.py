"""The paper's table: metrics against networks, a grid for each task."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from rich.table import Table
from rich.text import Text

from vreid_cli.reports.names import Network, enumerate_some, metric_name, network_labels, network_of, ranking_names
from vreid_cli.reports.tables import counted, percent

Result = Mapping[str, Any]

#: What all rankings of one grid share, beside network, metric and α: their items, and the rules. The counts are
#: among it because two data sets of one name, or a run that skipped an image, show in nothing else.
_SHARED = (
    *("dataset", "task", "definition", "track_unit", "query_source", "cameras", "coverage", "threshold", "rerank"),
    *("gallery_size", "total_queries", "valid_queries", "positives", "junk"),
    *("ground_truth", "ap_rule", "same_camera", "without_positive"),
)
_TITLES = {"t2t": "Track to track", "i2t": "Image to track", "i2i": "Image to image"}
#: The paper's rank-1 and rank-5; of other --ranks the first two.
_RANKS_SHOWN = 2
_BEST = "*"


@dataclass(frozen=True, eq=False)
class Grid:
    """Rankings that differ in nothing but network and metric.

    Attributes:
        networks: The columns.
        metrics: The rows.
        cells: What is known of them, by metric and network.
    """

    networks: tuple[Network, ...]
    metrics: tuple[str, ...]
    cells: Mapping[tuple[str, Network], Result]


def make_grids(results: Sequence[Result], metrics: Sequence[str]) -> tuple[list[Grid], list[Result]]:
    """Gather results into grids of two networks and more.

    Args:
        results: Objects as ``vreid evaluate --json`` prints them.
        metrics: All metrics in the order of the rows.

    Returns:
        The grids, in the order in which their first ranking came; and the results that stand in none, because no
        other network was ranked and counted that way or because their cell was taken.
    """
    groups: dict[str, dict[tuple[str, Network], Result]] = {}
    left = []
    for result in results:
        network = network_of(result)
        if network is None or result["metric"] is None or result["trial"] is not None:
            left.append(result)
            continue
        cells = groups.setdefault(json.dumps([result[key] for key in _SHARED]), {})
        if cells.setdefault((metric_name(result), network), result) is not result:
            left.append(result)
    grids = []
    for cells in groups.values():
        networks = tuple(dict.fromkeys(network for _, network in cells))
        if len(networks) < 2:
            left += cells.values()
            continue
        rows = {name: (metrics.index(cell["metric"]), cell["alpha"] or 0) for (name, _), cell in cells.items()}
        grids.append(Grid(networks, tuple(sorted(rows, key=lambda name: rows[name])), cells))
    return grids, left


def grid_tables(results: Sequence[Result], metrics: Sequence[str]) -> Iterator[Table]:
    """The paper's table, where there are rankings of several networks: scores in percent, a grid for each task.

    Args:
        results: Objects as ``vreid evaluate --json`` prints them, all counted by the same rules.
        metrics: All metrics in the order of the rows.
    """
    grids, left = make_grids(results, metrics)
    labels, names = network_labels(results), ranking_names(results)
    for number, grid in enumerate(grids, start=1):
        note = f"scores in %, {_BEST} the network's best metric"
        if left and number == len(grids):
            missing = enumerate_some(names[result["ranking"]] for result in left)
            note += f"; in no grid: {missing} (no other network ranked and counted so, or twice there)"
        yield _grid_table(grid, labels, note)


def why_no_grid(results: Sequence[Result], metrics: Sequence[str]) -> str | None:
    """What keeps rankings of several networks from a grid; None where there is one, or none to be expected."""
    grids, left = make_grids(results, metrics)
    if grids:
        return None
    names = ranking_names(results)
    for one, other in combinations(left, 2):
        alike = (one["task"], metric_name(one)) == (other["task"], metric_name(other))
        differing = [key for key in _SHARED if one[key] != other[key]]
        if alike and differing and network_of(one) and network_of(other) and network_of(one) != network_of(other):
            key = differing[0]
            return (
                f"no grid of metrics by networks: {names[one['ranking']]} and {names[other['ranking']]} differ in "
                f"{key.replace('_', ' ')}: {one[key]} and {other[key]}"
            )
    return None


def _grid_table(grid: Grid, labels: Mapping[Network, Sequence[str]], note: str) -> Table:
    told = list(grid.cells.values())
    table = Table(
        title=Text(f"{_TITLES.get(told[0]['task'], 'Rankings')}: metrics by networks"),
        title_justify="left",
        caption=counted(told, note),
        caption_justify="left",
    )
    table.add_column("score", no_wrap=True)
    table.add_column("metric", no_wrap=True)
    for network in grid.networks:
        table.add_column(Text("\n".join(labels[network])), justify="right", overflow="fold")
    ranks = list(told[0]["cmc"])[:_RANKS_SHOWN]
    for head, rank in (("mAP", None), *((f"rank-{rank}", rank) for rank in ranks)):
        for place, (metric, cells) in enumerate(_section(grid, rank)):
            table.add_row("" if place else head, Text(metric), *cells)
        table.add_section()
    return table


def _section(grid: Grid, rank: str | None) -> Iterator[tuple[str, list[Text]]]:
    """One score of all cells, row by row: CMC at a rank, or mAP."""
    scores = {place: _score(cell, rank) for place, cell in grid.cells.items()}
    best = {
        network: max(score for metric in grid.metrics if (score := scores.get((metric, network))) is not None)
        for network in grid.networks
        # Of a single score there is no best.
        if sum(scores.get((metric, network)) is not None for metric in grid.metrics) > 1
    }
    for metric in grid.metrics:
        row = [(scores.get((metric, network)), best.get(network)) for network in grid.networks]
        yield metric, [_cell(score, best=score == top) for score, top in row]


def _score(cell: Result, rank: str | None) -> float | None:
    score: float | None = cell["mAP"] if rank is None else cell["cmc"][rank]
    return score


def _cell(score: float | None, *, best: bool) -> Text:
    """A score; the best with a mark, which is seen where bold is not."""
    if score is None or not best:
        return Text(f"{percent(score)} ")
    return Text(f"{percent(score)}{_BEST}", style="bold")
