"""An extraction that is killed, and goes on: a few of the kills of tests/benchmarks/survival.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent.parent
SCRIPT, SUPPORT = TESTS / "benchmarks" / "survival.py", TESTS / "support"


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the kills are those of forked processes")
def test_killed_extractions_end_with_the_bytes_of_one_left_alone() -> None:
    # In a process that forks before anything was computed: threads of torch do not survive a fork.
    command = [sys.executable, str(SCRIPT), "--kills", "5", "--seed", "1", "--json"]
    path = os.pathsep.join([str(SUPPORT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["kills"] >= 5
    assert len({one["situation"] for one in told["runs"]}) == 4
