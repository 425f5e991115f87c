"""The nearest items of some queries, from memory and from files."""

from __future__ import annotations

from pathlib import Path

import pytest
from lists import entries, made_ranking, split_by_query, write_to

from vreid_cli.evaluation.nearest import nearest
from vreid_cli.store.formats import read_ranking
from vreid_cli.types.rankings import RankedItem, Ranking
from vreid_cli.types.truth import SameCamera

FORMATS = ("parquet", "json")
NO_LABELS = "(?P<vehicle>(?!))"


def expected_nearest(ranking: Ranking, query: str, *, same_camera: SameCamera) -> list[tuple[str, int]]:
    """By a walk over the list: what counts, at the rank at which it counts."""
    names = [
        ranking.gallery.ids[item]
        for block in ranking.blocks
        for number, item in zip(block.query_index, block.gallery_index, strict=True)
        if ranking.queries.ids[number] == query
    ]
    position = list(ranking.queries.ids).index(query)
    kept = [
        name for name, entry in zip(names, entries(ranking)[position], strict=True) if not entry.left_out(same_camera)
    ]
    return [(name, place) for place, name in enumerate(kept, start=1)]


@pytest.mark.parametrize("ending", ["memory", *FORMATS])
@pytest.mark.parametrize("same_camera", ["drop", "keep"])
@pytest.mark.parametrize("top", [1, 3, 1000])
def test_nearest_leaves_out_junk_and_self_and_counts_ranks_without_them(
    tmp_path: Path, ending: str, same_camera: SameCamera, top: int
) -> None:
    ranking = made_ranking()
    opened = ranking
    if ending != "memory":
        form = split_by_query(ranking)  # several row groups
        opened = read_ranking(write_to(tmp_path / f"r.{ending}", form), label_pattern=NO_LABELS)
    wanted = list(ranking.queries.ids)[::-2]
    found = nearest(opened, wanted, top=top, same_camera=same_camera)
    assert list(found) == wanted
    for query, items in found.items():
        expected = expected_nearest(ranking, query, same_camera=same_camera)[:top]
        assert [(item.gallery_id, item.rank) for item in items] == expected


@pytest.mark.parametrize("ending", FORMATS)
def test_nearest_says_all_that_the_ranking_knows(tmp_path: Path, ending: str) -> None:
    ranking = made_ranking()
    opened = read_ranking(write_to(tmp_path / f"r.{ending}", ranking))
    query = ranking.queries.ids[0]
    (block,) = ranking.blocks
    place = {ranking.gallery.ids[item]: i for i, item in enumerate(block.gallery_index[: len(ranking.gallery)])}
    for item in nearest(opened, [query], top=5, same_camera="keep")[query]:
        row = place[item.gallery_id]
        index = block.gallery_index[row]
        assert item == RankedItem(
            query_id=query,
            query_vehicle=ranking.queries.vehicles[0],
            query_camera=ranking.queries.cameras[0],
            rank=item.rank,
            gallery_id=ranking.gallery.ids[index],
            gallery_vehicle=ranking.gallery.vehicles[index],
            gallery_camera=ranking.gallery.cameras[index],
            distance=float(block.distance[row]),
        )
