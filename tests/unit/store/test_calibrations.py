"""Calibrations as files, and those that ship."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vreid_cli.models.sources import SMALL_FOLDER
from vreid_cli.store.calibrations import read_calibration, shipped_calibrations
from vreid_cli.store.runs import calibration_name
from vreid_cli.types.rankings import RankingFacts
from vreid_cli.workflows.calibrations import CalibrationFinder

NAMES = ("t2t-meanMCD50", "i2t-MCD", "i2i-MCD")


def facts_of(name: str, **identity: str) -> RankingFacts:
    """A ranking by the network that ships, or by another."""
    task, _, metric = name.partition("-")
    config = json.loads((SMALL_FOLDER / "config.json").read_text())
    own = {name: str(config[name]) for name in ("architecture", "weights_digest")}
    own |= {"transform": "rgb-bilinear-squash-crop192-imagenet", "precision": "fp32", "backend": "torch"}
    return RankingFacts(
        task=task,  # type: ignore[arg-type]
        metric=metric,
        definition="paper",
        track_unit=None if task == "i2i" else "passage",
        gallery_identity={**own, **identity},
        gallery_size=1000,
    )


@pytest.mark.parametrize("name", NAMES)
def test_the_network_that_ships_has_probabilities_for_the_default_metric_of_each_task(name: str) -> None:
    (path,) = shipped_calibrations(name)
    shipped, facts = read_calibration(path), facts_of(name)
    assert facts.misfit(shipped) is None
    assert calibration_name(facts) == path.stem
    assert shipped.fitted_on.vehicles >= 50
    finder = CalibrationFinder((), None)
    assert finder.find(facts) == shipped
    assert finder.find(facts_of(name, backend="onnx")) == shipped
    assert finder.find(facts_of(name, weights_digest="another")) is None
    assert finder.find(facts_of(name, precision="bf16")) is None
    assert finder.warnings == []
    # As its model card says.
    assert max(shipped.log_ratios) == pytest.approx(7.5, abs=0.1)
    assert shipped.prior(gallery_size=57) == pytest.approx(1 / 57)


@pytest.mark.parametrize("metric", ["minMED", "meanMCD"])
def test_other_metrics_of_it_have_none(metric: str) -> None:
    assert CalibrationFinder((), None).find(facts_of(f"t2t-{metric}")) is None


def test_files_that_ship_are_named_by_what_they_are_for() -> None:
    assert {path.stem for path in Path(SMALL_FOLDER, "calibrations").glob("*.json")} == set(NAMES)
