"""Rankings in files: what is written is read back, and what is wrong is said."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import oracles
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lists import entries, made_ranking, split_by_query, write_to

from vreid_cli.errors import DataError, StoreError
from vreid_cli.evaluation.evaluate import Evaluation, evaluate
from vreid_cli.evaluation.options import EvaluationOptions
from vreid_cli.ranking.options import RankingOptions
from vreid_cli.ranking.rank import rank
from vreid_cli.store import rankings as rankings_module
from vreid_cli.store.formats import read_features, read_ranking, read_ranking_facts
from vreid_cli.types.arrays import text_array
from vreid_cli.types.features import FeatureSet
from vreid_cli.types.rankings import Ranking, RankingFacts
from vreid_cli.types.truth import SameCamera

FORMATS = ("parquet", "json")
RANKS = (1, 2, 5, 10)
NO_LABELS = "(?P<vehicle>(?!))"


def evaluated(ranking: Ranking, *, same_camera: SameCamera = "drop") -> Evaluation:
    return evaluate(ranking, EvaluationOptions(same_camera=same_camera, ranks=RANKS, resamples=100))


def assert_scores(found: Evaluation, ranking: Ranking, *, same_camera: SameCamera = "drop") -> None:
    expected = oracles.evaluate(entries(ranking), same_camera=same_camera, ap_rule="rectangle", ranks=RANKS)
    assert found.mean_ap == pytest.approx(expected.mean_ap, abs=1e-9)
    assert found.mean_inp == pytest.approx(expected.mean_inp, abs=1e-9)
    assert found.cmc == pytest.approx(expected.cmc, abs=1e-9)
    assert (found.valid_queries, found.positives, found.junk) == (expected.valid, expected.positives, expected.junk)
    assert found.total_queries == len(ranking.queries)


# -- round trips ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("same_camera", ["drop", "keep"])
@pytest.mark.parametrize("seed", range(4))
def test_a_ranking_read_back_scores_as_the_oracle_says(
    tmp_path: Path, ending: str, same_camera: SameCamera, seed: int
) -> None:
    ranking = made_ranking(seed=seed)
    for form in (ranking, split_by_query(ranking)):
        opened = read_ranking(write_to(tmp_path / f"r.{ending}", form), label_pattern=NO_LABELS)
        assert list(opened.queries.ids) == list(ranking.queries.ids)
        assert_scores(evaluated(opened, same_camera=same_camera), ranking, same_camera=same_camera)


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("top_k", [1, 5])
def test_top_k_read_back_scores_as_the_full_list(tmp_path: Path, ending: str, top_k: int) -> None:
    opened = read_ranking(write_to(tmp_path / f"r.{ending}", made_ranking(top_k=top_k)), label_pattern=NO_LABELS)
    assert (opened.facts.coverage, opened.facts.top_k, opened.facts.gallery_size) == ("positives", top_k, 40)
    assert_scores(evaluated(opened), made_ranking())


FULL_FACTS = RankingFacts(
    dataset="veri",
    task="t2t",
    metric="meanMCD50",
    definition="released",
    track_unit="camera",
    query_source="gallery",
    query_identity={"architecture": "densenet201", "weights": "abc"},
    gallery_identity={"architecture": "densenet201"},
    weights="random",
    coverage="positives",
    gallery_size=2021,
    cameras="other",
    top_k=10,
    selves={"0002_c002": ("0002_c002", "über"), "x": ()},
)


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize(
    "facts", [FULL_FACTS, RankingFacts(), RankingFacts(dataset="10", metric="MED", weights="null", gallery_size=3)]
)
def test_every_fact_comes_back(tmp_path: Path, ending: str, facts: RankingFacts) -> None:
    ranking = replace(made_ranking(), facts=facts)
    assert read_ranking(write_to(tmp_path / f"r.{ending}", ranking)).facts == facts


def test_the_schema_is_the_contract(tmp_path: Path) -> None:
    ranking = made_ranking()
    path = write_to(tmp_path / "r.parquet", ranking)
    schema = pq.read_schema(path)
    text = pa.dictionary(pa.int32(), pa.utf8())
    assert list(zip(schema.names, schema.types, strict=True)) == [
        ("query_id", text),
        ("query_vehicle", text),
        ("query_camera", text),
        ("rank", pa.int32()),
        ("gallery_id", text),
        ("gallery_vehicle", text),
        ("gallery_camera", text),
        ("distance", pa.float32()),
    ]
    metadata = {key.decode(): value.decode() for key, value in schema.metadata.items()}
    assert {k: metadata[k] for k in ("dataset", "task", "metric", "definition", "coverage", "gallery_size")} == {
        "dataset": "veri",
        "task": "i2i",
        "metric": "MED",
        "definition": "paper",
        "coverage": "full",
        "gallery_size": "40",
    }
    assert json.loads(metadata["query_identity"]) == {"architecture": "ä", "b": "1"}


def test_every_row_is_written_junk_and_self_too(tmp_path: Path) -> None:
    ranking = made_ranking()
    table = pq.read_table(write_to(tmp_path / "r.parquet", ranking)).to_pylist()
    expected = [
        {
            "query_id": ranking.queries.ids[query],
            "query_vehicle": ranking.queries.vehicles[query],
            "query_camera": ranking.queries.cameras[query],
            "rank": int(place),
            "gallery_id": ranking.gallery.ids[item],
            "gallery_vehicle": ranking.gallery.vehicles[item],
            "gallery_camera": ranking.gallery.cameras[item],
            "distance": float(distance),
        }
        for block in ranking.blocks
        for query, place, item, distance in zip(
            block.query_index, block.rank, block.gallery_index, block.distance, strict=True
        )
    ]
    assert table == expected
    assert len(table) == len(ranking.queries) * len(ranking.gallery)


def test_an_unlabelled_ranking_scores_nothing(tmp_path: Path) -> None:
    ranking = made_ranking()
    for side in (ranking.queries, ranking.gallery):
        side.vehicles[:] = text_array([None] * len(side))
    for ending in FORMATS:
        found = evaluated(read_ranking(write_to(tmp_path / f"r.{ending}", ranking)))
        assert (found.mean_ap, found.valid_queries, found.unlabelled_queries) == (None, 0, len(ranking.queries))
        assert found.junk == len(ranking.queries)


@pytest.mark.parametrize("ending", FORMATS)
def test_a_query_without_rows_counts_among_all_queries(tmp_path: Path, ending: str) -> None:
    gallery = FeatureSet.from_arrays(
        np.eye(3), track_id=["a", "b", "c"], vehicle_id=["1", "1", "2"], camera_id=["c1"] * 3
    )
    query = FeatureSet.from_arrays(np.eye(3)[:2], track_id=["p", "q"], vehicle_id=["1", "1"], camera_id=["c2", "c1"])
    ranking = rank(query, gallery, RankingOptions(metric=("minMED",), cameras="other"))["minMED"]
    found = evaluated(read_ranking(write_to(tmp_path / f"r.{ending}", ranking)))
    assert (found.valid_queries, found.total_queries) == (1, 2)


def test_a_parquet_of_unknown_origin_is_full_only_if_every_query_lists_the_same(tmp_path: Path) -> None:
    path = write_to(tmp_path / "r.parquet", made_ranking())
    table = pq.read_table(path).replace_schema_metadata(None)
    pq.write_table(table, path)
    assert read_ranking(path).facts.coverage == "full"
    pq.write_table(table.slice(0, len(table) - 1), path)
    assert read_ranking(path).facts.coverage == "top-k"


# -- pieces --------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("rows", [1, 7, 40, 41, 79, 1000])
@pytest.mark.parametrize("group", [1, 13, 40, 1000])
def test_lists_cut_by_reading_or_by_row_groups_are_joined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int, group: int
) -> None:
    ranking = made_ranking()
    path = write_to(tmp_path / "r.parquet", ranking)
    table = pq.read_table(path)
    pq.write_table(table, path, row_group_size=group)
    monkeypatch.setattr(rankings_module, "_READ_ROWS", rows)
    opened = read_ranking(path)
    assert opened.facts == ranking.facts
    blocks = list(opened.blocks)
    names = [opened.queries.ids[query] for block in blocks for query in np.unique(block.query_index)]
    assert names == list(ranking.queries.ids)
    assert [rank for block in blocks for rank in block.rank] == list(range(1, 41)) * len(ranking.queries)
    assert list(opened.queries.ids) == list(ranking.queries.ids)
    assert_scores(evaluated(opened), ranking)


def test_reading_goes_by_a_few_queries_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_to(tmp_path / "r.parquet", made_ranking())
    monkeypatch.setattr(rankings_module, "_READ_ROWS", 60)
    assert max(len(np.unique(block.query_index)) for block in read_ranking(path).blocks) <= 3


# -- what is wrong -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", FORMATS)
def test_a_ranking_that_is_not_there(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"r.{ending}"
    with pytest.raises(StoreError, match=r"there is no") as caught:
        read_ranking(path)
    assert caught.value.file == str(path)


@pytest.mark.parametrize("content", [b"", b"nonsense", b"PAR1" + b"\0" * 40 + b"PAR1"])
@pytest.mark.parametrize("ending", FORMATS)
def test_a_file_that_is_no_ranking(tmp_path: Path, ending: str, content: bytes) -> None:
    path = tmp_path / f"r.{ending}"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"r\.(parquet|json)"):
        read_ranking(path)


def test_a_ranking_that_is_replaced_while_it_is_read_is_the_one_that_was_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_to(tmp_path / "r.parquet", made_ranking(top_k=1))
    other = write_to(tmp_path / "other.parquet", made_ranking())
    read = RankingFacts.from_metadata

    def read_and_replace(metadata: dict[str, str]) -> RankingFacts:
        other.replace(path)
        return read(metadata)

    monkeypatch.setattr(RankingFacts, "from_metadata", read_and_replace)
    found = read_ranking(path)
    assert found.facts.top_k == 1
    assert_scores(evaluated(found), made_ranking())
    rows, wanted = (sum(len(block.rank) for block in one.blocks) for one in (found, made_ranking(top_k=1)))
    assert rows == wanted


def test_a_truncated_parquet(tmp_path: Path) -> None:
    path = write_to(tmp_path / "r.parquet", made_ranking())
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(StoreError):
        read_ranking(path)


@pytest.mark.parametrize(("start", "stop"), [(40, 1200), (-1400, -1100)])
def test_a_parquet_with_damaged_pages(tmp_path: Path, start: int, stop: int) -> None:
    ranking = made_ranking(queries=40, gallery=200)
    path = write_to(tmp_path / "r.parquet", ranking)
    content = bytearray(path.read_bytes())
    footer = int.from_bytes(content[-8:-4], "little") + 8
    start, stop = (end if end > 0 else len(content) - footer + end for end in (start, stop))
    content[start:stop] = b"\xff" * (stop - start)
    path.write_bytes(content)
    assert read_ranking_facts(path) == ranking.facts
    with pytest.raises(StoreError, match="damaged"):
        list(read_ranking(path).blocks)


def test_a_query_in_two_places_is_an_error(tmp_path: Path) -> None:
    path = write_to(tmp_path / "r.parquet", made_ranking())
    table = pq.read_table(path)
    pq.write_table(pa.concat_tables([table.slice(40), table.slice(0, 40), table.slice(40, 40)]), path)
    with pytest.raises(StoreError, match="in several places"):
        list(read_ranking(path).blocks)


@pytest.mark.parametrize(
    "missing",
    [
        "rank",
        pytest.param(
            "gallery_camera",
        ),
    ],
)
def test_a_parquet_without_a_column_is_no_ranking(tmp_path: Path, missing: str) -> None:
    path = write_to(tmp_path / "r.parquet", made_ranking())
    pq.write_table(pq.read_table(path).drop_columns([missing]), path)
    with pytest.raises(StoreError, match=f"no column {missing}"):
        read_ranking(path)


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "7",
        "{}",
        '{"tracks": []}',
        '{"tracks": {"q": []}}',
        '{"tracks": {"q": {}}}',
        '{"tracks": {"q": {"class": "1", "ranking": {"first": {"id": "r", "class": "1", "distance": 1}}}}}',
        '{"tracks": {"q": {"class": "1", "ranking": {"1": {"class": "1", "distance": 1}}}}}',
        '{"tracks": {"q": {"class": "1", "ranking": {"1": {"id": "r", "class": "1"}}}}}',
        '{"tracks": {"q": {"class": "1", "ranking": {"1": {"id": "r", "class": "1", "distance": "near"}}}}}',
        '{"tracks": {}, "vreid": 7}',
        '{"tracks": {}, "vreid": {"selves": 7}}',
        '{"tracks": {"q": 1',
    ],
)
def test_a_json_that_is_no_ranking(tmp_path: Path, content: str) -> None:
    path = tmp_path / "r.json"
    path.write_text(content)
    with pytest.raises(StoreError, match=r"r\.json"):
        read_ranking(path)


@pytest.mark.parametrize("name", ["r.csv", "r", "r.pkl"])
def test_an_unknown_ending(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("x")
    with pytest.raises(DataError, match="no ranking that is known"):
        read_ranking(tmp_path / name)
    with pytest.raises(DataError, match="no feature file that is known"):
        read_features(tmp_path / name)
