"""What was measured on this machine and is kept in the cache folder, because a second choice might differ."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch

from vreid_cli.runtime.progress import log


def machine() -> str:
    """What speeds depend on: processor, threads, and the versions of the libraries that compute."""
    model = platform.processor() or platform.machine()
    with suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return f"{model}, {torch.get_num_threads()} threads, torch {torch.__version__}, numpy {np.__version__}"


def read_measured(path: Path) -> dict[str, object]:
    """What a file of the cache folder holds; nothing where it is not there or damaged: it is measured again then."""
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def keep_measured(path: Path, known: Mapping[str, object]) -> None:
    """Write such a file; where that is not possible, the next command measures again."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(known, indent=2), encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        log.debug("what was measured could not be kept: %s", error)
