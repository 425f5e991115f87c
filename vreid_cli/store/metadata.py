"""What a safetensors file says about itself, read without torch and without its tensors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from vreid_cli.errors import WeightsError


@contextmanager
def open_safetensors(path: Path, *, framework: str) -> Iterator[Any]:
    """Open a safetensors file for ``numpy`` or ``pt``.

    Raises:
        WeightsError: The file is missing, damaged, or no safetensors file.
    """
    try:
        with safe_open(path, framework=framework) as file:
            yield file
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"{path} is damaged or is no safetensors file: {error}", file=path) from None


def read_metadata(path: Path) -> dict[str, Any]:
    """The metadata of a safetensors file; values that are JSON objects or lists are read as such.

    Raises:
        WeightsError: The file is missing, damaged, or no safetensors file.
    """
    with open_safetensors(path, framework="numpy") as file:
        return {name: _read(text) for name, text in (file.metadata() or {}).items()}


def _read(text: str) -> Any:
    if not text.startswith(("{", "[")):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
