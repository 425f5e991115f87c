"""``vreid index``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vreid_cli.cli.command import Command
from vreid_cli.cli.output import print_note
from vreid_cli.types.amounts import amount

if TYPE_CHECKING:
    from rich.console import Console

    from vreid_cli.workflows.index import IndexReport


def _render(report: IndexReport, console: Console) -> None:
    for one in report.indexes:
        added = "nothing to add" if not one.added else f"{one.added:,} added"
        console.print(f"{one.distance}, {one.kind}: {amount(one.images, 'image')}, {added}, {one.size / 1e6:,.1f} MB")
        console.print(f"written: {one.path}", soft_wrap=True)
    print_note(f"next: vreid rank{report.run_option} --candidates 1000 --check-recall 100", console)


def _results(report: IndexReport) -> dict[str, Any]:
    names = ("distance", "kind", "images", "added", "size", "rebuilt")
    return {"indexes": [{name: getattr(one, name) for name in names} for one in report.indexes]}


COMMAND = Command(
    help="""Index the images of the gallery, so that rank --candidates need not look at all of them.

    The index proposes the nearest tracks of a query; rank computes the exact
    metric on those alone. Small galleries are compared whole (flat), larger ones
    by lists of near images (ivf), compressed where they are very many (ivf-pq).
    What was extracted since is added. Needs the extra faiss.

    Examples:
      vreid index
      vreid index --distance cosine,euclidean
      vreid index --kind hnsw --restart
    """,
    settings={"index": ("kind", "distance", "restart")},
    workflow="vreid_cli.workflows.index:index",
    render=_render,
    to_json=_results,
)
