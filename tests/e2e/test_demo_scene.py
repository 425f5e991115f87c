"""``vreid demo --scene``, as small as it can be: every step runs, and what it writes is there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vreid_cli.cli.app import run

SMALL = [
    *("--set", "demo.train_vehicles=3", "--set", "demo.test_vehicles=14", "--set", "demo.cameras=3"),
    *("--set", "demo.images_per_track=1", "--set", "demo.scene_vehicles=3", "--epochs", "1"),
]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_from_videos_to_identities(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["demo", "--scene", *SMALL, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert list(report["identities"]) == [
        "associated with travel times",
        "associated",
        "each track with its nearest",
        "associated with travel times, untrained network",
        "associated, untrained network",
    ]
    assert all(0 < one["IDF1"] <= 1 for one in report["identities"].values())
    made = Path("runs/demo-scene")
    assert (made / "reports/identities.png").stat().st_size > 10_000
    for camera in ("c001", "c002", "c003"):
        assert (made / "scene" / camera / "vdo.mp4").is_file()
        assert (made / "identities/meanMCD" / camera / "tracker.txt").is_file()
    # Later commands find the run, and the same command makes it again.
    assert run(["show", "--identities"]) == 0
    assert run(["evaluate"]) == 0
    assert "IDF1" in capsys.readouterr().out
