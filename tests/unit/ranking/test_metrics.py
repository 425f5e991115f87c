"""Names of metrics: what each task knows, in any case, and what is said about names that it does not know."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import TRACK_METRICS

from vreid_cli.errors import UsageError
from vreid_cli.ranking.metrics import parse_metrics
from vreid_cli.types.rankings import Definition, Task

IMAGE_TASKS: tuple[Task, ...] = ("i2t", "i2i")


def names(*given_names: str, task: Task = "t2t", definition: Definition = "paper") -> list[str]:
    return [metric.name for metric in parse_metrics(given_names, task, definition=definition)]


@pytest.mark.parametrize("name", TRACK_METRICS)
@pytest.mark.parametrize("definition", ["paper", "released"])
def test_track_metrics_by_their_names(name: str, definition: Definition) -> None:
    (metric,) = parse_metrics([name], "t2t", definition=definition)
    distance, aggregation, half = TRACK_METRICS[name]
    assert (metric.name, metric.distance) == (name, distance)
    assert metric.aggregation == aggregation + ("50" if half else "")


@pytest.mark.parametrize("task", IMAGE_TASKS)
@pytest.mark.parametrize("name", ["MED", "MCD"])
def test_image_metrics_by_their_names(task: Task, name: str) -> None:
    assert names(name, task=task) == [name]


def test_all_is_every_metric_of_the_task() -> None:
    assert set(names("all")) - {"RSCR"} == set(TRACK_METRICS)
    for task in IMAGE_TASKS:
        assert set(names("all", task=task)) - {"RSCR"} == {"MED", "MCD"}


def test_each_metric_comes_once_in_the_order_given() -> None:
    assert names("minMED", "meanMCD50", "MINMED", "mean50mcd") == ["minMED", "meanMCD50"]
    assert names("medMCD50", "all")[0] == "medMCD50"
    assert sorted(names("medMCD50", "all")) == sorted(names("ALL"))


@given(name=st.sampled_from(sorted(TRACK_METRICS)), seed=st.integers(0, 2**12 - 1))
def test_case_does_not_matter(name: str, seed: int) -> None:
    mixed = "".join(c.upper() if seed >> i & 1 else c.lower() for i, c in enumerate(name))
    assert names(mixed) == [name]


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("mean50MCD", "meanMCD50"),
        ("med50MED", "medMED50"),
        ("MEAN50med", "meanMED50"),
        ("Med50mcd", "medMCD50"),
    ],
)
def test_the_50_may_come_first(alias: str, name: str) -> None:
    assert names(alias) == [name]


@pytest.mark.parametrize(
    ("wrong", "nearest"),
    [("meanMCD5O", "meanMCD50"), ("minMEDD", "minMED"), ("medMCD5", "medMCD50"), ("al", "all"), ("meenmcd", "meanMCD")],
)
def test_an_unknown_name_is_wrong_usage_and_offers_the_nearest(wrong: str, nearest: str) -> None:
    with pytest.raises(UsageError) as caught:
        names(wrong)
    assert wrong in caught.value.message
    assert caught.value.hint is not None
    assert f"'{nearest}'" in caught.value.hint
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("wrong", ["", " ", "zzzzzz", "50", "min50MED", "minMED50", "mean50MCD50", "meanMCD50 "])
def test_names_that_only_look_like_metrics_are_refused(wrong: str) -> None:
    with pytest.raises(UsageError):
        names(wrong)


@pytest.mark.parametrize("task", IMAGE_TASKS)
@pytest.mark.parametrize("name", TRACK_METRICS)
def test_track_metrics_are_unknown_to_single_images(task: Task, name: str) -> None:
    with pytest.raises(UsageError, match=task):
        names(name, task=task)


@pytest.mark.parametrize("name", ["MED", "MCD"])
def test_image_metrics_are_unknown_to_tracks(name: str) -> None:
    with pytest.raises(UsageError, match="t2t"):
        names(name)


@pytest.mark.parametrize("task", IMAGE_TASKS)
@pytest.mark.parametrize("name", ["MCD", "all"])
def test_released_is_about_two_tracks(task: Task, name: str) -> None:
    with pytest.raises(UsageError, match=r"released.*" + task):
        names(name, task=task, definition="released")
