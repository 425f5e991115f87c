"""Object stores for tests: one in memory, and what puts folders into one."""

from __future__ import annotations

from pathlib import Path

from vreid_cli.runtime.objects import as_path


def put_folder(folder: Path, address: str) -> str:
    """Copy all files below a folder into a store."""
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            as_path(f"{address}/{file.relative_to(folder).as_posix()}").upload(file)  # type: ignore[attr-defined]
    return address


def contents(address: str) -> dict[str, bytes]:
    """Every object below an address, by its key there."""
    folder = as_path(address)
    return {key: (folder / key).read_bytes() for key in folder.files_below()}  # type: ignore[attr-defined]
