"""The authors' released sample, and VeRi-776's own lists: numbers that were not computed here."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from lists import means, write_to
from numpy.typing import NDArray
from oracles import MCD_ABSOLUTE, MED_RELATIVE, TRACK_METRICS, image_to_track, track_distance

from vreid_cli.data.veri_truth import read_truth
from vreid_cli.evaluation.evaluate import Evaluation
from vreid_cli.evaluation.evaluate import evaluate as evaluate_ranking
from vreid_cli.evaluation.judging import RIGHT, Judge, left_out
from vreid_cli.evaluation.options import EvaluationOptions
from vreid_cli.ranking.options import RankingOptions
from vreid_cli.ranking.rank import rank
from vreid_cli.ranking.tracks import group_tracks
from vreid_cli.reports.pairs import explain
from vreid_cli.runtime.options import RuntimeOptions
from vreid_cli.store.formats import read_features, read_ranking
from vreid_cli.types.arrays import text_array
from vreid_cli.types.features import ArrayMatrix, FeatureSet
from vreid_cli.types.rankings import Definition, Ranking, Task
from vreid_cli.types.tracks import TrackUnit
from vreid_cli.types.truth import GroundTruth

pytestmark = pytest.mark.shared

#: Between the released ranking and ours (docs/definitions.md#tolerances).
SAMPLE_ABSOLUTE = 1e-5


# -- the released sample -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sample:
    query: FeatureSet
    gallery: FeatureSet
    query_tracks: dict[str, NDArray[np.float64]]
    gallery_tracks: dict[str, NDArray[np.float64]]
    released: dict[str, list[tuple[str, str, float]]]


@pytest.fixture(scope="module")
def sample(shared: Path) -> Sample:
    folder = shared / "reference"
    paths = [folder / name for name in ("feat_query.json", "feat_test.json")]
    tracks = [{name: np.array(rows) for name, rows in json.loads(path.read_text()).items()} for path in paths]
    released = json.loads((folder / "ranking.json").read_text())
    assert (released["metric"], released["aggregation"]) == ("MCD", "mean50")
    rows = {
        query: [(row["id"], row["class"], row["distance"]) for _, row in sorted(entry["ranking"].items(), key=_place)]
        for query, entry in released["tracks"].items()
    }
    return Sample(*(read_features(path) for path in paths), *tracks, rows)


def _place(entry: tuple[str, object]) -> int:
    return int(entry[0])


def distances(ranking: Ranking) -> Iterator[tuple[str, str, float]]:
    """Rows of a ranking, query by query, nearest first."""
    for block in ranking.blocks:
        for query, item, value in zip(block.query_index, block.gallery_index, block.distance, strict=True):
            yield ranking.queries.ids[query], ranking.gallery.ids[item], float(value)


def test_released_definition_is_the_released_ranking(sample: Sample) -> None:
    options = RankingOptions(metric=("meanMCD50",), definition="released")
    found: dict[str, list[tuple[str, float]]] = defaultdict(list)
    for query, item, value in distances(rank(sample.query, sample.gallery, options)["meanMCD50"]):
        found[query].append((item, value))
    assert list(found) == list(sample.released)
    for query, rows in sample.released.items():
        assert [item for item, _ in found[query]] == [item for item, _, _ in rows]
        for (_, value), (_, _, expected) in zip(found[query], rows, strict=True):
            assert abs(value - expected) <= SAMPLE_ABSOLUTE


def test_the_paper_definition_is_another_one(sample: Sample) -> None:
    # Else the test above could pass by the wrong formula.
    options = RankingOptions(metric=("meanMCD50",))
    released = {(query, item): value for query, rows in sample.released.items() for item, _, value in rows}
    paper = {(q, r): value for q, r, value in distances(rank(sample.query, sample.gallery, options)["meanMCD50"])}
    assert max(abs(paper[pair] - released[pair]) for pair in released) > 100 * SAMPLE_ABSOLUTE


@pytest.mark.parametrize("definition", ["paper", "released"])
def test_every_metric_agrees_with_the_oracle_on_real_representations(sample: Sample, definition: Definition) -> None:
    options = RankingOptions(metric=tuple(TRACK_METRICS), definition=definition)
    for metric, ranking in rank(sample.query, sample.gallery, options).items():
        for query, item, value in distances(ranking):
            expected = track_distance(sample.query_tracks[query], sample.gallery_tracks[item], metric, definition)
            assert abs(value - expected) <= (MED_RELATIVE * expected if "MED" in metric else MCD_ABSOLUTE), metric


def test_single_images_agree_with_the_oracle_on_real_representations(sample: Sample) -> None:
    for metric, ranking in rank(
        sample.query, sample.gallery, RankingOptions(task="i2t", metric=("MED", "MCD"))
    ).items():
        for query, item, value in distances(ranking):
            track, number = query.split("#")
            expected = image_to_track(sample.query_tracks[track][int(number)], sample.gallery_tracks[item], metric)
            assert abs(value - expected) <= (MED_RELATIVE * expected if metric == "MED" else MCD_ABSOLUTE)


def test_each_released_pair_is_explained(sample: Sample, shared: Path) -> None:
    ranking = read_ranking(shared / "reference" / "ranking.json")
    for query, rows in sample.released.items():
        for item, _, expected in rows:
            view = explain(ranking, query, item, query=sample.query, gallery=sample.gallery)
            # The file does not say by which definition: its distances do.
            assert view.definition == "released"
            assert view.distances.value == pytest.approx(expected, abs=SAMPLE_ABSOLUTE)
            assert view.distances.cells.shape == (len(sample.query_tracks[query]), len(sample.gallery_tracks[item]))


@pytest.mark.parametrize("source", ["released", "parquet", "json"])
def test_every_query_of_the_sample_is_answered(sample: Sample, shared: Path, tmp_path: Path, source: str) -> None:
    path = shared / "reference" / "ranking.json" if source == "released" else tmp_path / f"ranking.{source}"
    if source != "released":
        options = RankingOptions(definition="released")
        write_to(path, rank(sample.query, sample.gallery, options)["meanMCD50"])
    ranking = read_ranking(path)
    for rule in ("rectangle", "trapezoid"):
        found = evaluate_ranking(ranking, EvaluationOptions(ap=rule, ranks=(1, 4)))  # type: ignore[arg-type]
        assert (found.mean_ap, found.mean_inp, found.cmc) == (1.0, 1.0, {1: 1.0, 4: 1.0})
        assert (found.valid_queries, found.total_queries, found.positives, found.junk) == (4, 4, 4, 0)


# -- VeRi's lists --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lists:
    query: FeatureSet
    gallery: FeatureSet
    good: list[list[int]]
    junk: list[list[int]]


@pytest.fixture(scope="module")
def lists(shared: Path) -> Lists:
    folder = shared / "veri_lists"
    names = {name: (folder / f"name_{name}.txt").read_text().split() for name in ("query", "test")}
    track_of = {}
    for line in (folder / "test_track.txt").read_text().splitlines():
        track, *images = line.split()
        track_of |= dict.fromkeys(images, track)
    rng = np.random.default_rng(0)
    rows = {name: rng.normal(size=8).astype(np.float32) for name in names["test"]}

    def side(images: list[str]) -> FeatureSet:
        parts = [image.split("_") for image in images]
        return FeatureSet(
            ArrayMatrix(np.stack([rows[image] for image in images])),
            text_array(images),
            text_array([track_of[image] for image in images]),
            text_array([vehicle for vehicle, *_ in parts]),
            text_array([camera for _, camera, *_ in parts]),
            image_root="VeRi",
            dataset="veri",
            protocol="gallery-tracks",
        )

    def index(name: str) -> list[list[int]]:
        return [[int(n) for n in line.split()] for line in (folder / name).read_text().splitlines()]

    return Lists(side(names["query"]), side(names["test"]), index("gt_index.txt"), index("jk_index.txt"))


#: docs/definitions.md#veri-776: task, track unit -> queries, gallery, positives, junk with self, all under ``drop``.
TABLE: dict[tuple[Task, TrackUnit], tuple[int, int, int, int]] = {
    ("i2i", "passage"): (1678, 11579, 107_106, 11_589),
    ("i2t", "passage"): (1678, 2021, 18_719, 2023),
    ("t2t", "passage"): (1677, 2021, 18_716, 2021),
    ("i2t", "camera"): (1678, 1677, 15_525, 1678),
    ("t2t", "camera"): (1677, 1677, 15_522, 1677),
}


def evaluate(path: Path, truth: GroundTruth | None = None) -> Evaluation:
    return evaluate_ranking(read_ranking(path), EvaluationOptions(ranks=(1, 5)), truth=truth)


@pytest.fixture(scope="module")
def truth(shared: Path) -> GroundTruth:
    found = read_truth(shared / "veri_lists")
    assert found is not None
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("task", "unit"), [key for key in TABLE if key[0] != "i2i"])
def test_counts_of_the_tasks_with_tracks(
    lists: Lists, truth: GroundTruth, tmp_path: Path, task: Task, unit: TrackUnit
) -> None:
    metric = "minMCD" if task == "t2t" else "MCD"
    # Nearest and same-vehicle rows only: at true ranks they say as much as whole lists.
    options = RankingOptions(task=task, metric=(metric,), track_unit=unit, top_k=1)
    ranking = rank(lists.query, lists.gallery, options)[metric]
    write_to(tmp_path / "ranking.parquet", ranking)
    found = evaluate(tmp_path / "ranking.parquet")
    queries, gallery, positives, junk = TABLE[task, unit]
    assert (found.total_queries, found.valid_queries) == (queries, queries)
    assert (ranking.facts.gallery_size, len(ranking.gallery)) == (gallery, gallery)
    assert (found.positives, found.junk) == (positives, junk)
    assert sum(map(len, ranking.facts.selves.values())) == queries
    assert ranking.facts.query_source == ("gallery" if task == "t2t" else "query")
    tracks = group_tracks(lists.gallery, unit)
    names = np.repeat(tracks.items.ids, tracks.lengths)
    track_of = dict(zip(lists.gallery.image_id[tracks.rows], names, strict=True))
    stated = evaluate(tmp_path / "ranking.parquet", truth.of_tracks(track_of, query_tracks=task == "t2t"))
    assert means(stated) == means(found)
    assert stated.warnings == ()


@pytest.fixture(scope="module")
def images(lists: Lists, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every query image against every test image, of which each query's positives and junk are listed."""
    options = RankingOptions(task="i2i", metric=("MCD",), top_k=1)
    ranking = rank(lists.query, lists.gallery, options, runtime=RuntimeOptions(memory_budget_mb=256))["MCD"]
    path = tmp_path_factory.mktemp("i2i") / "ranking.parquet"
    write_to(path, ranking)
    return path


def test_counts_of_single_images(images: Path, truth: GroundTruth) -> None:
    found = evaluate(images)
    queries, gallery, positives, junk = TABLE["i2i", "passage"]
    assert (found.total_queries, found.valid_queries) == (queries, queries)
    assert read_ranking(images).facts.gallery_size == gallery
    assert (found.positives, found.junk) == (positives, junk)
    stated = evaluate(images, truth)
    assert means(stated) == means(found)
    assert stated.warnings == ()


def test_positives_and_junk_are_veris_own_row_by_row(lists: Lists, images: Path) -> None:
    place = {name: position for position, name in enumerate(lists.gallery.image_id, start=1)}
    ranking = read_ranking(images)
    assert list(ranking.queries.ids) == list(lists.query.image_id)
    judge = Judge(ranking)
    own = np.array([place[name] for name in ranking.gallery.ids])
    found: list[tuple[list[int], list[int]]] = []
    for block in ranking.blocks:
        kinds = judge(block.query_index, block.gallery_index)
        listed = own[block.gallery_index]
        for query in np.unique(block.query_index):
            of_query = block.query_index == query
            good, junk = (listed[of_query & part] for part in (kinds == RIGHT, left_out(kinds, "drop")))
            found.append((sorted(good.tolist()), sorted(junk.tolist())))
    assert found == list(zip(lists.good, lists.junk, strict=True))


def test_the_full_lists_score_as_the_positives_alone(lists: Lists, tmp_path: Path) -> None:
    few = np.arange(0, len(lists.query), 37)
    query = replace(
        lists.query,
        matrix=ArrayMatrix(lists.query.matrix.take(few)),
        **{name: getattr(lists.query, name)[few] for name in ("image_id", "track_id", "vehicle_id", "camera_id")},
    )
    scores = []
    for top_k in (None, 10):
        options = RankingOptions(task="i2i", metric=("MED",), top_k=top_k)
        path = tmp_path / f"{top_k}.parquet"
        runtime = RuntimeOptions(memory_budget_mb=256)
        write_to(path, rank(query, lists.gallery, options, runtime=runtime)["MED"])
        scores.append(evaluate(path))
    assert means(scores[0]) == means(scores[1])
    assert scores[0].total_queries == len(few)
