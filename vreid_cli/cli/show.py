"""``vreid show``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from vreid_cli.cli.command import Command
from vreid_cli.types.amounts import amount

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image
    from rich.console import Console

    from vreid_cli.types.rankings import RankedItem
    from vreid_cli.workflows.show import ShowReport


def _results(report: ShowReport) -> dict[str, object]:
    lists = report.nearest.items()
    pair = report.pair
    if report.identities is not None:
        from vreid_cli.reports.identities import identities_json

        shown = [one for one in identities_json(report.identities) if one["identity"] in report.shown]
        return {"identities": str(report.ranking), "vehicles": shown, "hidden_vehicles": report.hidden}
    return {
        "ranking": str(report.ranking),
        "notes": report.notes,
        "calibration": report.calibration,
        "queries": [{"query_id": query, "nearest": [asdict(item) for item in items]} for query, items in lists],
        "hidden_queries": report.hidden,
        "match": pair
        and {
            "query_id": pair.query_id,
            "gallery_id": pair.gallery_id,
            "definition": pair.definition,
            "value": pair.distances.value,
            "cells": pair.distances.cells.tolist(),
            "shows": pair.distances.shows,
            "counts": pair.distances.counts.tolist(),
            "spelled": pair.distances.spelled,
        },
    }


def _print_strips(
    query: str, items: Sequence[RankedItem], strips: Sequence[Image.Image | None], console: Console
) -> None:
    from rich.text import Text

    from vreid_cli.reports.terminal import terminal_image

    captions = [f"query {query}", *(f"#{item.rank} {item.gallery_id}" for item in items)]
    for caption, strip in zip(captions, strips, strict=True):
        console.print(Text(caption))
        console.print(Text("no images") if strip is None else terminal_image(strip))


def _what(report: ShowReport) -> str:
    if report.identities is not None:
        return "sheet"
    page = report.outputs[0].lower().endswith((".html", ".htm"))
    return "match" if report.pair is not None else "page" if page else "sheet"


def _render(report: ShowReport, console: Console) -> None:
    from vreid_cli.reports.identities import identities_table
    from vreid_cli.reports.tables import nearest_table, pair_table

    if report.identities is not None and not report.outputs:
        console.print(identities_table(report.identities, report.shown))
    if report.pair is not None:
        sides = f"query {report.pair.query_id} (rows), gallery {report.pair.gallery_id} (columns)"
        console.print(sides, soft_wrap=True, markup=False, highlight=False)
        console.print(pair_table(report.pair))
        console.print(report.pair.distances.spelled, soft_wrap=True, markup=False)
    if report.outputs:
        console.print(f"{_what(report)}: {report.outputs[0]}", soft_wrap=True, markup=False)
    elif report.pair is None and report.identities is None:
        for query, items in report.nearest.items():
            console.print(nearest_table(query, items))
            if report.strips:
                _print_strips(query, items, report.strips[query], console)
        console.print(f"{report.metric or 'unknown metric'}; {report.notes}", soft_wrap=True)
    if report.hidden:
        more = amount(report.hidden, "more query" if report.identities is None else "more vehicle")
        console.print(f"{more}: name them to see them, or --set show.max_queries=N")


COMMAND = Command(
    help="""Show the nearest tracks (or images) of some queries, as a table, as a sheet of images, or as a page.

    In a sheet each query stands before its nearest, in the order of their ranks;
    where labels are known, frames and marks say which show its vehicle.
    A page, report.html, is one file that needs no network: filter, sort, mark
    matches by keyboard, open one to see why it is a match.
    --match shows why one track is as near as it is: all distances between its
    images and the query's, and which of them decide. --identities shows the
    tracks that vreid associate takes for one vehicle.

    Examples:
      vreid show
      vreid show 0002_c002_t0175 --top 10 --output sheet.png
      vreid show 0002_c002_t0175 --match 0002_c003_t0010 --attention --output pair.png
      vreid show --worst 50 --best 10 --top 20 --output report.html
      vreid show '0002_*' --ranking r.json
      vreid show --identities --output identities.png
      vreid show --ranking r.json --gallery-dir gallery --query-dir query -o sheet.png
    """,
    settings={
        "show": (
            *("queries", "ranking", "identities", "match", "top", "worst", "best"),
            *("attention", "output", "assets", "images"),
        ),
        "evaluate": ("same_camera",),
        "data": ("query_dir", "gallery_dir", "label_pattern"),
        "rank": ("query_features", "gallery_features"),
    },
    wording={
        "data.query_dir": {"help": "Where the queries' images are.", "shown": "where they were extracted"},
        "data.gallery_dir": {"help": "Where the gallery's images are.", "shown": "where they were extracted"},
    },
    workflow="vreid_cli.workflows.show:show",
    choose_run="vreid_cli.workflows.show:choose_run",
    render=_render,
    to_json=_results,
)
