"""Commands as a shell runs them: in a process of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def in_process_of_its_own(*arguments: str | Path, cwd: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run ``vreid`` with these arguments, and check its exit code and that it printed no traceback."""
    command = [sys.executable, "-m", "vreid_cli", *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, encoding="utf-8", check=False)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done
