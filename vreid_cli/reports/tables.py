"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from vreid_cli.types import RankedItem

#: Facts of a ranking that everything a person reads must name: key, and heading.
_FACTS = {
    "dataset": "dataset",
    "task": "task",
    "track_unit": "track unit",
    "definition": "definition",
    "cameras": "cameras",
    "weights": "weights",
}
_RULES = {"ap_rule": "AP", "same_camera": "same camera"}


def evaluation_table(results: Sequence[Mapping[str, Any]]) -> Table:
    """Scores of several rankings in percent, a row each.

    Args:
        results: Objects as ``vreid evaluate --json`` prints them.

    Facts that all rows share stand below the table once; the others get a column.
    """
    shared = {key for key in _FACTS if len({_text(result[key]) for result in results}) == 1}
    said = [f"{_FACTS[key]} {_text(results[0][key])}" for key in _FACTS if key in shared]
    said += [f"{label} {results[0][key]}" for key, label in _RULES.items()]
    table = Table(caption="; ".join(said) + "; all scores in %", caption_justify="left", title_justify="left")
    table.add_column("metric")
    for key, heading in _FACTS.items():
        if key not in shared:
            table.add_column(heading)
    ranks = list(results[0]["cmc"])
    for heading in ("mAP", "mINP", *(f"rank-{rank}" for rank in ranks), "valid/total"):
        table.add_column(heading, justify="right", no_wrap=True)
    for result in results:
        facts = [_text(result[key]) for key in _FACTS if key not in shared]
        scores = [result["mAP"], result["mINP"], *(result["cmc"][rank] for rank in ranks)]
        valid = f"{result['valid_queries']:,}/{result['total_queries']:,}"
        table.add_row(_text(result["metric"]), *facts, *(percent(score) for score in scores), valid)
    return table


def nearest_table(query: str, items: Sequence[RankedItem]) -> Table:
    """The nearest items of one query, in rank order; labels and a mark where they are known."""
    labelled = any(item.gallery_vehicle is not None for item in items)
    table = Table(title=query, title_justify="left")
    table.add_column("rank", justify="right")
    table.add_column("distance", justify="right")
    table.add_column("name", overflow="fold")
    if labelled:
        for heading in ("vehicle", "camera", "same vehicle"):
            table.add_column(heading)
    for item in items:
        row = [str(item.rank), f"{item.distance:.4f}", item.gallery_id]
        if labelled:
            row += [_text(item.gallery_vehicle), _text(item.gallery_camera), _mark(item)]
        table.add_row(*row)
    return table


def percent(fraction: float | None) -> str:
    """A fraction in percent with one decimal; a dash where there is none."""
    return "-" if fraction is None else f"{100 * fraction:.1f}"


def _mark(item: RankedItem) -> str:
    if item.query_vehicle is None or item.gallery_vehicle is None:
        return "?"
    return "[green]✓ yes[/]" if item.query_vehicle == item.gallery_vehicle else "[red]✗ no[/]"


def _text(value: object) -> str:
    return "unknown" if value is None else str(value)
