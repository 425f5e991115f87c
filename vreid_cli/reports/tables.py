"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from vreid_cli.types import RankedItem

#: Facts of a ranking that everything a person reads must name: key, and heading.
_FACTS = {
    "dataset": "dataset",
    "task": "task",
    "track_unit": "track unit",
    "definition": "definition",
    "cameras": "cameras",
    "weights": "weights",
    "rerank": "re-ranking",
}
_JUNK = {
    "drop": "the query itself and junk (its vehicle by its own camera) left out (--same-camera drop)",
    "keep": "only the query itself left out (--same-camera keep)",
}


def evaluation_table(results: Sequence[Mapping[str, Any]]) -> Table:
    """Scores of several rankings in percent, a row each.

    Args:
        results: Objects as ``vreid evaluate --json`` prints them, all counted by the same rules.

    Facts that all rows share stand below the table once; the others get a column. Rankings that no fact tells
    apart are named by their files.
    """
    shared = {key for key in _FACTS if len({_fact(result, key) for result in results}) == 1}
    columns = [key for key in _FACTS if key not in shared]
    recipes = {tuple(_fact(result, key) for key in ("metric", *columns)) for result in results}
    if len(recipes) < len(results):
        columns.append("ranking")
    table = Table(caption=_caption(results[0], shared), caption_justify="left", title_justify="left")
    table.add_column("metric")
    for key in columns:
        table.add_column(_FACTS.get(key, key), overflow="fold")
    ranks = list(results[0]["cmc"])
    for heading in ("mAP", "mINP", *(f"rank-{rank}" for rank in ranks), "valid/total"):
        table.add_column(heading, justify="right", no_wrap=True)
    for result in results:
        scores = [result["mAP"], result["mINP"], *(result["cmc"][rank] for rank in ranks)]
        valid = f"{result['valid_queries']:,}/{result['total_queries']:,}"
        facts = [_fact(result, key) for key in ("metric", *columns)]
        table.add_row(*map(Text, facts), *(percent(score) for score in scores), valid)
    return table


def _caption(result: Mapping[str, Any], shared: Iterable[str]) -> Text:
    """What all rows have in common, and the rules that they were counted by."""
    facts = [f"{_FACTS[key]} {_fact(result, key)}" for key in _FACTS if key in shared]
    rules = [f"AP rule {result['ap_rule']}", _JUNK[result["same_camera"]]]
    return Text("; ".join([*facts, *rules, "scores in %, over the valid queries"]))


def _fact(result: Mapping[str, Any], key: str) -> str:
    # Single images have no track unit, which is not the same as not knowing it.
    if key == "track_unit" and result["task"] == "i2i":
        return "none"
    if key == "rerank":
        return ", ".join(f"{name} {value:g}" for name, value in (result[key] or {}).items()) or "none"
    if key == "metric" and result["alpha"] is not None:
        return f"{result[key]}, α {result['alpha']:g}"
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
