"""Rankings and features in files: what is written is read back, and what is wrong is said."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import oracles
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from oracles import Entry

from vreid_cli.errors import DataError, StoreError, VreidError
from vreid_cli.evaluation.scores import Evaluation, score_queries, summarise
from vreid_cli.ranking.options import RankingOptions
from vreid_cli.ranking.rank import rank
from vreid_cli.store import rankings as rankings_module
from vreid_cli.store.feature_files import RankingFile, open_ranking, read_feature_file
from vreid_cli.store.npz import write_features_npz
from vreid_cli.store.paper_json import JsonRanking, JsonRankingWriter, write_features_json
from vreid_cli.store.rankings import ParquetRanking, write_ranking
from vreid_cli.types.arrays import text_array
from vreid_cli.types.features import FeatureSet
from vreid_cli.types.labels import LabelPattern
from vreid_cli.types.rankings import RankedItem, Ranking, RankingFacts
from vreid_cli.types.truth import SameCamera

FORMATS = ("parquet", "json")
RANKS = (1, 2, 5, 10)


def labels(name: str) -> tuple[str | None, str | None]:
    read = LabelPattern.compile(None).read(name)
    return read.vehicle_id, read.camera_id


def no_labels(name: str) -> tuple[str | None, str | None]:
    return None, None


# -- rankings: building --------------------------------------------------------------------------------------


def made_ranking(*, seed: int = 0, queries: int = 9, gallery: int = 40, top_k: int | None = None) -> Ranking:
    """Ties, missing labels on both sides, junk and selves; the first queries are gallery images too."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(-1, 2, size=(gallery, 3)).astype(np.float32)
    names = [f"bild {i:02d} ä.jpg" for i in range(gallery)]
    vehicles = [None if rng.random() < 0.1 else f"v{rng.integers(4)}" for _ in range(gallery)]
    cameras = [None if rng.random() < 0.1 else f"c{rng.integers(3)}" for _ in range(gallery)]
    vehicles[0], cameras[0] = "v1", "c1"
    # A query and an item of one vehicle, both without a camera: no junk.
    vehicles[1] = vehicles[-1] = "v1"
    cameras[1] = cameras[-1] = None
    everything = FeatureSet.from_arrays(
        rows, track_id=names, image_id=names, vehicle_id=vehicles, camera_id=cameras, source="gallery"
    )
    everything = replace(
        everything, image_root="/images", dataset="veri", weights="made", identity={"architecture": "ä", "b": "1"}
    )
    some = np.arange(queries)
    query = replace(
        everything,
        matrix=type(everything.matrix)(rows[some]),  # type: ignore[call-arg]
        **{name: getattr(everything, name)[some] for name in ("image_id", "track_id", "vehicle_id", "camera_id")},
    )
    return rank(query, everything, RankingOptions(task="i2i", metric=("MED",), top_k=top_k))["MED"]


def written(ranking: Ranking, path: Path) -> Path:
    if path.suffix == ".json":
        writer = JsonRankingWriter(ranking.facts, ranking.queries, ranking.gallery)
        for block in ranking.blocks:
            writer.append(block)
        writer.write(path)
        return path
    with write_ranking(path, ranking.facts, queries=ranking.queries, gallery=ranking.gallery) as parquet:
        for block in ranking.blocks:
            parquet.append(block)
    return path


def split_by_query(ranking: Ranking) -> Ranking:
    """The same lists, one block a query."""
    blocks = [
        replace(block, **{name: getattr(block, name)[block.query_index == query] for name in vars(block)})
        for block in ranking.blocks
        for query in np.unique(block.query_index)
    ]
    return replace(ranking, blocks=tuple(blocks))


def entries(ranking: Ranking) -> list[list[Entry]]:
    """The lists as the oracle takes them, from the ranking in memory."""
    lists: list[list[Entry]] = [[] for _ in ranking.queries.ids]
    for block in ranking.blocks:
        for query, item in zip(block.query_index, block.gallery_index, strict=True):
            vehicle, camera = ranking.queries.vehicles[query], ranking.queries.cameras[query]
            lists[query].append(
                Entry(
                    vehicle is not None and vehicle == ranking.gallery.vehicles[item],
                    camera is not None and camera == ranking.gallery.cameras[item],
                    ranking.queries.ids[query] == ranking.gallery.ids[item],
                )
            )
    return lists


def evaluated(ranking: RankingFile, *, same_camera: SameCamera = "drop") -> Evaluation:
    scores = [score_queries(rows, same_camera=same_camera, ap_rule="rectangle") for rows in ranking.judged()]
    facts = ranking.facts
    return summarise(scores, ranks=RANKS, coverage=facts.coverage, query_count=facts.query_count)


def assert_scores(found: Evaluation, ranking: Ranking, *, same_camera: SameCamera = "drop") -> None:
    expected = oracles.evaluate(entries(ranking), same_camera=same_camera, ap_rule="rectangle", ranks=RANKS)
    assert found.mean_ap == pytest.approx(expected.mean_ap, abs=1e-9)
    assert found.mean_inp == pytest.approx(expected.mean_inp, abs=1e-9)
    assert found.cmc == pytest.approx(expected.cmc, abs=1e-9)
    assert (found.valid_queries, found.positives, found.junk) == (expected.valid, expected.positives, expected.junk)
    assert found.total_queries == len(ranking.queries)


# -- rankings: round trips -----------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("same_camera", ["drop", "keep"])
@pytest.mark.parametrize("seed", range(4))
def test_a_ranking_read_back_scores_as_the_oracle_says(
    tmp_path: Path, ending: str, same_camera: SameCamera, seed: int
) -> None:
    ranking = made_ranking(seed=seed)
    for form in (ranking, split_by_query(ranking)):
        opened = open_ranking(written(form, tmp_path / f"r.{ending}"), no_labels)
        assert opened.query_ids() == list(ranking.queries.ids)
        assert_scores(evaluated(opened, same_camera=same_camera), ranking, same_camera=same_camera)


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("top_k", [1, 5])
def test_top_k_read_back_scores_as_the_full_list(tmp_path: Path, ending: str, top_k: int) -> None:
    opened = open_ranking(written(made_ranking(top_k=top_k), tmp_path / f"r.{ending}"), no_labels)
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
    assert open_ranking(written(ranking, tmp_path / f"r.{ending}"), labels).facts == facts


def test_the_schema_is_the_contract(tmp_path: Path) -> None:
    ranking = made_ranking()
    path = written(ranking, tmp_path / "r.parquet")
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
    table = pq.read_table(written(ranking, tmp_path / "r.parquet")).to_pylist()
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


def test_the_json_is_the_papers(tmp_path: Path) -> None:
    features = FeatureSet.from_arrays(
        np.eye(3), track_id=["0001_c001", "0002_c001", "0001_c002"], vehicle_id=["0001", "0002", "0001"]
    )
    query = FeatureSet.from_arrays(np.ones((2, 3)), track_id=["0001_c003"] * 2, vehicle_id=["0001"] * 2)
    ranking = rank(query, features, RankingOptions(metric=("meanMCD50",)))["meanMCD50"]
    content = json.loads(written(ranking, tmp_path / "r.json").read_text())
    assert (content["metric"], content["aggregation"]) == ("MCD", "mean50")
    assert list(content["tracks"]) == ["0001_c003"]
    entry = content["tracks"]["0001_c003"]
    assert entry["class"] == "0001"
    assert list(entry["ranking"]) == ["1", "2", "3"]
    assert entry["ranking"]["1"] == {
        "id": "0001_c001",
        "class": "0001",
        "distance": pytest.approx(1 - 1 / np.sqrt(3), abs=2e-6),
    }
    assert content.keys() - {"vreid"} == {"metric", "aggregation", "tracks"}
    assert content["vreid"]["definition"] == "paper"


@pytest.mark.parametrize(
    ("metric", "parts"),
    [
        ("minMED", ("MED", "min")),
        ("medMED50", ("MED", "med50")),
        ("meanMCD", ("MCD", "mean")),
        ("MCD", ("MCD", None)),
        ("RSCR", ("RSCR", None)),
    ],
)
def test_metric_and_aggregation_apart_and_together(tmp_path: Path, metric: str, parts: tuple[str, str | None]) -> None:
    path = written(replace(made_ranking(), facts=RankingFacts(metric=metric)), tmp_path / "r.json")
    content = json.loads(path.read_text())
    assert (content["metric"], content["aggregation"]) == parts
    del content["vreid"]
    path.write_text(json.dumps(content))
    assert JsonRanking(path, labels).facts.metric == metric


# -- rankings: the paper's JSON without our facts ------------------------------------------------------------


def foreign_json(path: Path, lists: dict[str, Sequence[str]]) -> Path:
    """A ranking as the authors' code writes it; the vehicle is the name's first part."""
    tracks = {
        query: {
            "class": query.split("_")[0],
            "ranking": {
                str(place): {"id": item, "class": item.split("_")[0], "distance": 0.1 * place}
                for place, item in enumerate(names, start=1)
            },
        }
        for query, names in lists.items()
    }
    path.write_text(json.dumps({"metric": "MCD", "aggregation": "mean50", "tracks": tracks}))
    return path


def test_a_foreign_json_is_full_if_every_query_lists_the_same(tmp_path: Path) -> None:
    gallery = ["0001_c002", "0002_c001", "0003_c001"]
    opened = JsonRanking(foreign_json(tmp_path / "r.json", {"0001_c001": gallery, "0002_c002": gallery[::-1]}), labels)
    facts = opened.facts
    assert (facts.metric, facts.coverage, facts.gallery_size) == ("meanMCD50", "full", 3)
    assert (facts.definition, facts.task, facts.dataset, dict(facts.selves)) == (None, None, None, {})
    assert evaluated(opened).mean_ap == (1 + 1 / 2) / 2


@pytest.mark.parametrize(
    "other", [["0001_c002", "0002_c001"], ["0001_c002", "0002_c001", "0004_c001"], [], ["0002_c001"] * 3]
)
def test_a_foreign_json_is_not_full_if_the_queries_list_others(tmp_path: Path, other: list[str]) -> None:
    lists = {"0001_c001": ["0001_c002", "0002_c001", "0003_c001"], "0002_c002": other}
    opened = JsonRanking(foreign_json(tmp_path / "r.json", lists), labels)
    assert opened.facts.coverage == "top-k"
    found = evaluated(opened)
    assert found.mean_ap is found.mean_inp is None


def test_a_foreign_jsons_cameras_come_from_the_names(tmp_path: Path) -> None:
    # The vehicle's own camera comes first: junk by its name. Where names say nothing, there is no junk.
    lists = {"0001_c001": ["0001_c001_t7", "0002_c001", "0001_c002"]}
    path = foreign_json(tmp_path / "r.json", lists)
    assert (evaluated(JsonRanking(path, labels)).mean_ap, evaluated(JsonRanking(path, labels)).junk) == (0.5, 1)
    assert (evaluated(JsonRanking(path, no_labels)).mean_ap, evaluated(JsonRanking(path, no_labels)).junk) == (
        pytest.approx((1 + 2 / 3) / 2),
        0,
    )


def test_numbers_as_classes_are_text(tmp_path: Path) -> None:
    path = foreign_json(tmp_path / "r.json", {"0001_c001": ["0001_c002", "0002_c002"]})
    content = json.loads(path.read_text())
    content["tracks"]["0001_c001"]["class"] = 7
    content["tracks"]["0001_c001"]["ranking"]["2"]["class"] = "7"
    path.write_text(json.dumps(content))
    assert evaluated(JsonRanking(path, labels)).mean_ap == 0.5


def test_the_order_of_the_keys_does_not_matter_the_ranks_do(tmp_path: Path) -> None:
    names = [f"{i:04d}_c002" for i in range(1, 13)]
    path = foreign_json(tmp_path / "r.json", {"0012_c001": names})
    content = json.loads(path.read_text())
    entry = content["tracks"]["0012_c001"]
    # As text "10" comes before "2".
    entry["ranking"] = {key: entry["ranking"][key] for key in sorted(entry["ranking"])}
    path.write_text(json.dumps(content))
    assert evaluated(JsonRanking(path, labels)).mean_ap == 1 / 12


# -- rankings: pieces ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 7, 40, 41, 79, 1000])
@pytest.mark.parametrize("group", [1, 13, 40, 1000])
def test_lists_cut_by_reading_or_by_row_groups_are_joined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int, group: int
) -> None:
    ranking = made_ranking()
    path = written(ranking, tmp_path / "r.parquet")
    table = pq.read_table(path)
    pq.write_table(table, path, row_group_size=group)
    monkeypatch.setattr(rankings_module, "_READ_ROWS", rows)
    opened = ParquetRanking(path)
    assert opened.facts == ranking.facts
    blocks = list(opened.judged())
    assert [name for block in blocks for name in block.query_ids] == list(ranking.queries.ids)
    assert [rank for block in blocks for rank in block.rank] == list(range(1, 41)) * len(ranking.queries)
    assert opened.query_ids() == list(ranking.queries.ids)
    assert_scores(evaluated(opened), ranking)


def test_reading_goes_by_a_few_queries_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(made_ranking(), tmp_path / "r.parquet")
    monkeypatch.setattr(rankings_module, "_READ_ROWS", 60)
    assert max(len(block.query_ids) for block in ParquetRanking(path).judged()) <= 3


# -- rankings: nearest ---------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("same_camera", ["drop", "keep"])
@pytest.mark.parametrize("top", [1, 3, 1000])
@pytest.mark.parametrize("window", [0, 32])
def test_nearest_leaves_out_junk_and_self_and_counts_ranks_without_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, same_camera: SameCamera, top: int, window: int
) -> None:
    # Without a window beyond ``top``, a list that begins with junk must be asked for again.
    monkeypatch.setattr(rankings_module, "_WINDOW", window)
    ranking = made_ranking()
    opened = open_ranking(written(ranking, tmp_path / f"r.{ending}"), no_labels)
    wanted = list(ranking.queries.ids)[::-2]
    found = opened.nearest(wanted, top=top, same_camera=same_camera)
    assert list(found) == wanted
    for query, items in found.items():
        expected = expected_nearest(ranking, query, same_camera=same_camera)[:top]
        assert [(item.gallery_id, item.rank) for item in items] == expected


@pytest.mark.parametrize("ending", FORMATS)
def test_nearest_says_all_that_the_ranking_knows(tmp_path: Path, ending: str) -> None:
    ranking = made_ranking()
    opened = open_ranking(written(ranking, tmp_path / f"r.{ending}"), labels)
    query = ranking.queries.ids[0]
    (block,) = ranking.blocks
    place = {ranking.gallery.ids[item]: i for i, item in enumerate(block.gallery_index[: len(ranking.gallery)])}
    for item in opened.nearest([query], top=5, same_camera="keep")[query]:
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


# -- rankings: what is wrong ---------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", FORMATS)
def test_a_ranking_that_is_not_there(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"r.{ending}"
    with pytest.raises(StoreError, match=r"there is no") as caught:
        open_ranking(path, labels)
    assert caught.value.file == str(path)


@pytest.mark.parametrize("content", [b"", b"nonsense", b"PAR1" + b"\0" * 40 + b"PAR1"])
@pytest.mark.parametrize("ending", FORMATS)
def test_a_file_that_is_no_ranking(tmp_path: Path, ending: str, content: bytes) -> None:
    path = tmp_path / f"r.{ending}"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"r\.(parquet|json)"):
        open_ranking(path, labels)


def test_a_truncated_parquet(tmp_path: Path) -> None:
    path = written(made_ranking(), tmp_path / "r.parquet")
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(StoreError):
        open_ranking(path, labels)


@pytest.mark.parametrize(
    "read",
    [
        pytest.param(lambda opened: list(opened.judged()), id="judged"),
        pytest.param(lambda opened: opened.query_ids(), id="query_ids"),
        pytest.param(
            lambda opened: opened.nearest(["bild 00 ä.jpg"], top=1, same_camera="drop"),
            id="nearest",
        ),
    ],
)
def test_a_parquet_with_damaged_pages(tmp_path: Path, read: Callable[[ParquetRanking], object]) -> None:
    path = written(made_ranking(), tmp_path / "r.parquet")
    content = bytearray(path.read_bytes())
    content[40:1200] = b"\xff" * 1160
    path.write_bytes(content)
    opened = ParquetRanking(path)
    with pytest.raises(StoreError, match="damaged"):
        read(opened)


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
    path = written(made_ranking(), tmp_path / "r.parquet")
    pq.write_table(pq.read_table(path).drop_columns([missing]), path)
    with pytest.raises(StoreError, match=f"no column {missing}"):
        open_ranking(path, labels)


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
        open_ranking(path, labels)


def test_ranks_from_0_in_a_foreign_json_are_an_error(tmp_path: Path) -> None:
    path = foreign_json(tmp_path / "r.json", {"0001_c001": ["0001_c002", "0002_c001"]})
    content = json.loads(path.read_text())
    ranking = content["tracks"]["0001_c001"]["ranking"]
    content["tracks"]["0001_c001"]["ranking"] = {str(int(key) - 1): row for key, row in ranking.items()}
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="0001_c001"):
        evaluated(open_ranking(path, labels))


@pytest.mark.parametrize("name", ["r.csv", "r", "r.pkl"])
def test_an_unknown_ending(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("x")
    with pytest.raises(DataError, match="no ranking that is known"):
        open_ranking(tmp_path / name, labels)
    with pytest.raises(DataError, match="no feature file that is known"):
        read_feature_file(tmp_path / name, labels)


# -- features ------------------------------------------------------------------------------------------------


def npz(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def test_json_features(tmp_path: Path) -> None:
    path = tmp_path / "f.json"
    path.write_text(json.dumps({"0002_c001": [[1, 2.5], [3, 4]], "0001_c002_x": [[5, 6]], "own": [[7, 8]]}))
    found = read_feature_file(path, labels)
    assert found.matrix.take(np.arange(4)).tolist() == [[1, 2.5], [3, 4], [5, 6], [7, 8]]
    assert list(found.track_id) == ["0002_c001", "0002_c001", "0001_c002_x", "own"]
    assert list(found.vehicle_id) == ["0002", "0002", "0001", None]
    assert list(found.camera_id) == ["c001", "c001", "c002", None]
    assert len(set(found.image_id)) == 4
    assert (found.identity, found.image_root, found.source) == (None, None, str(path))


def test_json_features_are_written_and_read_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tracks = {
        "0001_c001": rng.normal(size=(3, 4)).astype(np.float32),
        'ä"b': rng.normal(size=(1, 4)).astype(np.float32),
    }
    path = tmp_path / "f.json"
    write_features_json(path, tracks.items())
    found = read_feature_file(path, labels)
    assert list(found.track_id) == ["0001_c001"] * 3 + ['ä"b']
    assert np.array_equal(found.matrix.take(np.arange(4)), np.concatenate(list(tracks.values())))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[]", "not an object"),
        ("3", "not an object"),
        ("{", "not valid JSON"),
        ("", "not valid JSON"),
        ("{}", "no tracks"),
        ('{"a": []}', "track a holds no list of features"),
        ('{"a": {}}', "track a holds no list of features"),
        ('{"a": [1, 2]}', "track a, image 0"),
        ('{"a": [[]]}', "track a, image 0"),
        ('{"a": [[1, 2], [3]]}', "track a, image 1: 1 numbers"),
        ('{"a": [[1, 2], [3, 4, 5]]}', "track a, image 1: 3 numbers"),
        ('{"a": [[1, 2]], "b": [[3]]}', "different width"),
        ('{"a": [[1, "x"]]}', "track a"),
        ('{"a": [[1, null]]}', "track a"),
        ('{"a": [[1, [2]]]}', "track a"),
        ('{"b": [[1, 2]], "a": [[1, 2], [3, NaN]]}', "track a, image 1: a feature is not finite"),
        ('{"a": [[1, Infinity]]}', "track a, image 0: a feature is not finite"),
        ('{"a": [[1, 1e39]]}', "track a, image 0: a feature is not finite"),
        ('{"metric": "MCD", "tracks": {}}', "a ranking, not features"),
    ],
)
def test_json_features_that_are_wrong(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "f.json"
    path.write_text(content)
    with pytest.raises((DataError, StoreError), match=said) as caught:
        read_feature_file(path, labels)
    assert str(path) in caught.value.message


@pytest.mark.parametrize("value", ["true", '"1.5"'])
def test_what_only_looks_like_a_number_is_none(tmp_path: Path, value: str) -> None:
    path = tmp_path / "f.json"
    path.write_text(f'{{"a": [[{value}, {value}]]}}')
    with pytest.raises(DataError, match="track a"):
        read_feature_file(path, labels)


def test_npz_features(tmp_path: Path) -> None:
    path = npz(
        tmp_path / "f.npz",
        features=np.arange(6, dtype=np.float16).reshape(3, 2),
        image_id=np.array(["a.jpg", "b.jpg", "c.jpg"]),
        track_id=np.array(["t", "t", ""]),
        vehicle_id=np.array(["1", "", "0002"]),
        camera_id=np.array(["c1", "c2", ""]),
        extra=np.array(7),
    )
    found = read_feature_file(path, labels)
    assert found.matrix.take(np.array([2, 0])).tolist() == [[4, 5], [0, 1]]
    assert list(found.image_id) == ["a.jpg", "b.jpg", "c.jpg"]
    assert list(found.track_id) == ["t", "t", None]
    assert list(found.vehicle_id) == ["1", None, "0002"]
    assert list(found.camera_id) == ["c1", "c2", None]
    assert (found.identity, found.image_root) == (None, None)


def test_npz_labels_are_read_from_names_where_they_are_left_out(tmp_path: Path) -> None:
    features = np.ones((2, 3))
    by_track = read_feature_file(
        npz(tmp_path / "t.npz", features=features, track_id=np.array(["0001_c001", "x"])), labels
    )
    assert (list(by_track.vehicle_id), list(by_track.camera_id)) == (["0001", None], ["c001", None])
    by_image = read_feature_file(
        npz(tmp_path / "i.npz", features=features, image_id=np.array(["0007_c003_1.jpg", "y"])), labels
    )
    assert (list(by_image.vehicle_id), list(by_image.camera_id)) == (["0007", None], ["c003", None])
    assert list(by_image.track_id) == [None, None]


def test_npz_is_written_and_read_back(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    made = FeatureSet.from_arrays(
        rows,
        track_id=["t", "t", "u"],
        image_id=["ä", "b", "c"],
        vehicle_id=["0001", None, "2"],
        camera_id=[None, "c", "d"],
    )
    path = tmp_path / "f.npz"
    write_features_npz(path, made, facts={"architecture": "resnet18"})
    found = read_feature_file(path, no_labels)
    assert np.array_equal(found.matrix.take(np.arange(3)), rows)
    for name in ("image_id", "track_id", "vehicle_id", "camera_id"):
        assert list(getattr(found, name)) == list(getattr(made, name))
    with np.load(path, allow_pickle=False) as file:
        assert str(file["architecture"]) == "resnet18"


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"feature": np.ones((2, 2))}, "no array 'features'"),
        ({}, "no array 'features'"),
        ({"features": np.ones(3)}, r"shape \(3,\)"),
        ({"features": np.ones((2, 2, 2))}, r"shape \(2, 2, 2\)"),
        ({"features": np.array([["a", "b"]])}, r"not \(N, D\) numbers"),
        ({"features": np.ones((2, 2), dtype=complex)}, "complex"),
        ({"features": np.ones((2, 2), dtype=bool)}, "bool"),
        ({"features": np.array([[1.0, 2], [np.nan, 1]])}, "row 1 of 'features' is not finite"),
        ({"features": np.array([[np.inf, 2], [0, 1]])}, "row 0 of 'features' is not finite"),
        ({"features": np.ones((2, 2)), "track_id": np.array(["a"])}, "'track_id'"),
        ({"features": np.ones((2, 2)), "vehicle_id": np.array([["a", "b"]])}, "'vehicle_id'"),
    ],
)
def test_npz_features_that_are_wrong(tmp_path: Path, arrays: dict[str, Any], said: str) -> None:
    path = npz(tmp_path / "f.npz", **arrays)
    with pytest.raises(DataError, match=said) as caught:
        read_feature_file(path, labels)
    assert str(path) in caught.value.message


class Trap:
    """What must never come alive."""

    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("a pickle was opened",)


def test_nothing_in_an_npz_is_unpickled(tmp_path: Path) -> None:
    objects = np.empty(2, dtype=object)
    objects[:] = [Trap(), Trap()]
    for arrays in ({"features": objects}, {"features": np.ones((2, 2)), "track_id": objects}):
        path = npz(tmp_path / "f.npz", **arrays)
        with pytest.raises(DataError, match=r"plain arrays") as caught:
            read_feature_file(path, labels)
        assert caught.value.hint is not None
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(DataError):
        read_feature_file(path, labels)


def corrupted() -> bytes:
    """A compressed archive whose first member does not begin as deflate begins."""
    target = io.BytesIO()
    np.savez_compressed(target, features=np.ones((40, 8)))
    content = bytearray(target.getvalue())
    content[30 + content[26] + content[28]] = 0x07
    return bytes(content)


def encrypted() -> bytes:
    """An archive whose members say that they are encrypted."""
    target = io.BytesIO()
    np.savez(target, features=np.ones((2, 2)))
    with zipfile.ZipFile(target) as archive:
        offset = archive.start_dir
    content = bytearray(target.getvalue())
    content[6] |= 1
    content[offset + 8] |= 1
    return bytes(content)


def plain_npy() -> bytes:
    target = io.BytesIO()
    np.save(target, np.ones((2, 2)))
    return target.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"nonsense", id="text"),
        pytest.param(b"PK\x03\x04" + b"\0" * 30, id="broken archive"),
        pytest.param(plain_npy(), id="npy"),
        pytest.param(corrupted(), id="corrupted"),
        pytest.param(encrypted(), id="encrypted"),
    ],
)
def test_a_damaged_npz(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "f.npz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"f\.npz"):
        read_feature_file(path, labels)


@pytest.mark.parametrize("name", ["f.npz", "f.json", "folder", "f.parquet"])
def test_features_that_are_not_there(tmp_path: Path, name: str) -> None:
    with pytest.raises((DataError, StoreError), match=r"there (is|are) no") as caught:
        read_feature_file(tmp_path / name, labels)
    assert caught.value.file == str(tmp_path / name)


@pytest.mark.parametrize("ending", ["npz", "json"])
def test_a_folder_by_the_name_of_a_file(tmp_path: Path, ending: str) -> None:
    (tmp_path / f"f.{ending}").mkdir()
    with pytest.raises(VreidError):
        read_feature_file(tmp_path / f"f.{ending}", labels)


def test_texts_as_bytes_are_texts(tmp_path: Path) -> None:
    path = npz(tmp_path / "f.npz", features=np.ones((1, 2)), track_id=np.array([b"0001_c001"]))
    found = read_feature_file(path, labels)
    assert (list(found.track_id), list(found.vehicle_id)) == (["0001_c001"], ["0001"])


def test_npz_features_beyond_float32_are_not_finite(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    path = npz(tmp_path / "f.npz", features=np.array([[1.0, 1e39]]))
    with pytest.raises(DataError, match="not finite"):
        read_feature_file(path, labels)
    assert not recwarn.list


def test_features_from_files_have_no_self(tmp_path: Path) -> None:
    path = npz(tmp_path / "f.npz", features=np.eye(3), track_id=np.array(["a", "b", "c"]))
    side = read_feature_file(path, labels)
    assert not rank(side, side, RankingOptions(metric=("minMED",)))["minMED"].facts.selves


def test_an_unlabelled_ranking_scores_nothing(tmp_path: Path) -> None:
    ranking = made_ranking()
    for side in (ranking.queries, ranking.gallery):
        side.vehicles[:] = text_array([None] * len(side))
    for ending in FORMATS:
        found = evaluated(open_ranking(written(ranking, tmp_path / f"r.{ending}"), labels))
        assert (found.mean_ap, found.valid_queries, found.unlabelled_queries) == (None, 0, len(ranking.queries))
        assert found.junk == len(ranking.queries)


@pytest.mark.parametrize("ending", FORMATS)
def test_a_query_without_rows_counts_among_all_queries(tmp_path: Path, ending: str) -> None:
    gallery = FeatureSet.from_arrays(
        np.eye(3), track_id=["a", "b", "c"], vehicle_id=["1", "1", "2"], camera_id=["c1"] * 3
    )
    query = FeatureSet.from_arrays(np.eye(3)[:2], track_id=["p", "q"], vehicle_id=["1", "1"], camera_id=["c2", "c1"])
    ranking = rank(query, gallery, RankingOptions(metric=("minMED",), cameras="other"))["minMED"]
    found = evaluated(open_ranking(written(ranking, tmp_path / f"r.{ending}"), labels))
    assert (found.valid_queries, found.total_queries) == (1, 2)


def test_a_parquet_of_unknown_origin_is_full_only_if_every_query_lists_the_same(tmp_path: Path) -> None:
    path = written(made_ranking(), tmp_path / "r.parquet")
    table = pq.read_table(path).replace_schema_metadata(None)
    pq.write_table(table, path)
    assert open_ranking(path, labels).facts.coverage == "full"
    pq.write_table(table.slice(0, len(table) - 1), path)
    assert open_ranking(path, labels).facts.coverage == "top-k"
