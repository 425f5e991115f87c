"""The JSON of the paper's code: features, and rankings with and without our own facts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from lists import made_ranking, write_to

from vreid_cli.errors import DataError, StoreError
from vreid_cli.evaluation.evaluate import Evaluation, evaluate
from vreid_cli.ranking.options import RankingOptions
from vreid_cli.ranking.rank import rank
from vreid_cli.store.formats import read_features, read_ranking, write_features
from vreid_cli.types.features import FeatureSet
from vreid_cli.types.rankings import Ranking, RankingFacts

NO_LABELS = "(?P<vehicle>(?!))"


def evaluated(ranking: Ranking) -> Evaluation:
    return evaluate(ranking)


def test_the_json_is_the_papers(tmp_path: Path) -> None:
    features = FeatureSet.from_arrays(
        np.eye(3), track_id=["0001_c001", "0002_c001", "0001_c002"], vehicle_id=["0001", "0002", "0001"]
    )
    query = FeatureSet.from_arrays(np.ones((2, 3)), track_id=["0001_c003"] * 2, vehicle_id=["0001"] * 2)
    ranking = rank(query, features, RankingOptions(metric=("meanMCD50",)))["meanMCD50"]
    content = json.loads(write_to(tmp_path / "r.json", ranking).read_text())
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
    path = write_to(tmp_path / "r.json", replace(made_ranking(), facts=RankingFacts(metric=metric)))
    content = json.loads(path.read_text())
    assert (content["metric"], content["aggregation"]) == parts
    del content["vreid"]
    path.write_text(json.dumps(content))
    assert read_ranking(path).facts.metric == metric


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
    opened = read_ranking(foreign_json(tmp_path / "r.json", {"0001_c001": gallery, "0002_c002": gallery[::-1]}))
    facts = opened.facts
    assert (facts.metric, facts.coverage, facts.gallery_size) == ("meanMCD50", "full", 3)
    assert (facts.definition, facts.task, facts.dataset, dict(facts.selves)) == (None, None, None, {})
    assert evaluated(opened).mean_ap == (1 + 1 / 2) / 2


@pytest.mark.parametrize("other", [["0001_c002", "0002_c001"], ["0001_c002", "0002_c001", "0004_c001"], []])
def test_a_foreign_json_is_not_full_if_the_queries_list_others(tmp_path: Path, other: list[str]) -> None:
    lists = {"0001_c001": ["0001_c002", "0002_c001", "0003_c001"], "0002_c002": other}
    opened = read_ranking(foreign_json(tmp_path / "r.json", lists))
    assert opened.facts.coverage == "top-k"
    found = evaluated(opened)
    assert found.mean_ap is found.mean_inp is None


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"id": "0002_c001"', '"id": "0001_c002"', "the list of query 0001_c001 names item 0001_c002 twice"),
        ('"class": "0002"', '"class": "0009"', "item 0002_c001 is of two vehicles: 0002, 0009"),
        ('"2"', f'"{"9" * 30}"', "'99999999999999999999' is no rank"),
    ],
)
def test_what_contradicts_itself_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = foreign_json(tmp_path / "r.json", {"0001_c001": ["0001_c002", "0002_c001"], "0003_c001": ["0002_c001"]})
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(StoreError, match=message):
        read_ranking(path)


def test_a_foreign_jsons_cameras_come_from_the_names(tmp_path: Path) -> None:
    # The vehicle's own camera comes first: junk by its name. Where names say nothing, there is no junk.
    lists = {"0001_c001": ["0001_c001_t7", "0002_c001", "0001_c002"]}
    path = foreign_json(tmp_path / "r.json", lists)
    assert (evaluated(read_ranking(path)).mean_ap, evaluated(read_ranking(path)).junk) == (0.5, 1)
    assert (
        evaluated(read_ranking(path, label_pattern=NO_LABELS)).mean_ap,
        evaluated(read_ranking(path, label_pattern=NO_LABELS)).junk,
    ) == (
        pytest.approx((1 + 2 / 3) / 2),
        0,
    )


def test_numbers_as_classes_are_text(tmp_path: Path) -> None:
    path = foreign_json(tmp_path / "r.json", {"0001_c001": ["0001_c002", "0002_c002"]})
    content = json.loads(path.read_text())
    content["tracks"]["0001_c001"]["class"] = 7
    content["tracks"]["0001_c001"]["ranking"]["2"]["class"] = "7"
    path.write_text(json.dumps(content))
    assert evaluated(read_ranking(path)).mean_ap == 0.5


def test_the_order_of_the_keys_does_not_matter_the_ranks_do(tmp_path: Path) -> None:
    names = [f"{i:04d}_c002" for i in range(1, 13)]
    path = foreign_json(tmp_path / "r.json", {"0012_c001": names})
    content = json.loads(path.read_text())
    entry = content["tracks"]["0012_c001"]
    # As text "10" comes before "2".
    entry["ranking"] = {key: entry["ranking"][key] for key in sorted(entry["ranking"])}
    path.write_text(json.dumps(content))
    assert evaluated(read_ranking(path)).mean_ap == 1 / 12


def test_ranks_from_0_in_a_foreign_json_are_an_error(tmp_path: Path) -> None:
    path = foreign_json(tmp_path / "r.json", {"0001_c001": ["0001_c002", "0002_c001"]})
    content = json.loads(path.read_text())
    ranking = content["tracks"]["0001_c001"]["ranking"]
    content["tracks"]["0001_c001"]["ranking"] = {str(int(key) - 1): row for key, row in ranking.items()}
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="0001_c001"):
        evaluated(read_ranking(path))


# -- features ------------------------------------------------------------------------------------------------


def test_json_features(tmp_path: Path) -> None:
    path = tmp_path / "f.json"
    path.write_text(json.dumps({"0002_c001": [[1, 2.5], [3, 4]], "0001_c002_x": [[5, 6]], "own": [[7, 8]]}))
    found = read_features(path)
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
    names = [track for track, rows in tracks.items() for _ in rows]
    write_features(path, FeatureSet.from_arrays(np.concatenate(list(tracks.values())), track_id=names))
    found = read_features(path)
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
        ('{"a": [[1, 2], [3]]}', "track a, image 1: 1 number "),
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
        read_features(path)
    assert str(path) in caught.value.message


@pytest.mark.parametrize("value", ["true", '"1.5"'])
def test_what_only_looks_like_a_number_is_none(tmp_path: Path, value: str) -> None:
    path = tmp_path / "f.json"
    path.write_text(f'{{"a": [[{value}, {value}]]}}')
    with pytest.raises(DataError, match="track a"):
        read_features(path)
