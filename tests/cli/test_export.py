"""``vreid export features``: files that rank as the run itself does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny import TRACK_METRICS, Vreid, columns


@pytest.mark.parametrize("form", ["json", "npz", "lancedb"])
@pytest.mark.parametrize("unit", ["passage", "camera"])
def test_what_is_exported_ranks_as_the_run_itself(vreid: Vreid, ready: Path, form: str, unit: str) -> None:
    vreid("rank", "--metric", "all", "--track-unit", unit, "-o", "own")
    outputs = vreid.json("export", "features", "--format", form, "--track-unit", unit)["outputs"]
    assert outputs == [f"{ready}/exports/feat_{side}.{form}" for side in ("query", "test")]
    # The export has grouped the images by the unit already: its tracks are the run's items.
    vreid("rank", "--query-features", outputs[0], "--gallery-features", outputs[1], "--metric", "all", "-o", "again")
    for metric in TRACK_METRICS:
        suffix = "-camera" if unit == "camera" else ""
        own = columns(Path(f"own/t2t-{metric}{suffix}.parquet"))
        again = columns(Path(f"again/t2t-{metric}.parquet"))
        distances = [np.array(table.pop("distance")) for table in (own, again)]
        np.testing.assert_allclose(*distances, rtol=1e-6, atol=1e-7)
        assert own == again


def test_an_export_replaces_nothing_without_force(vreid: Vreid, ready: Path) -> None:
    vreid("export", "features", "-o", "out")
    error = vreid.error("export", "features", "-o", "out")
    assert "out/feat_query.json is there already" in error["message"]
    vreid("export", "features", "-o", "out", "--force")
    error = vreid.error("export", "features", "--format", "xml", code=2)
    assert error["message"] == "--format xml: needs 'json', 'npz' or 'lancedb'"
