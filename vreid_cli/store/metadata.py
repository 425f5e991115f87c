"""What a safetensors file says about itself, read without torch and without its tensors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from vreid_cli.errors import StoreError


def read_metadata(path: Path) -> dict[str, Any]:
    """The metadata of a safetensors file; values that are JSON objects or lists are read as such.

    Raises:
        StoreError: The file is missing, damaged, or no safetensors file.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError) as error:
        raise StoreError(f"{path} is damaged or is no safetensors file: {error}", file=path) from None
    return {name: _read(text) for name, text in metadata.items()}


def _read(text: str) -> Any:
    if not text.startswith(("{", "[")):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
