"""The library's face: every name is there, for people and for type checkers, and none is imported before it is used."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tiny import TRACKS, draw_tracks

import vreid_cli as vreid


@pytest.mark.parametrize("name", vreid.__all__)
def test_every_name_is_there_and_documented(name: str) -> None:
    assert getattr(vreid, name).__doc__
    assert name in dir(vreid)


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(vreid.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.asname: f"{node.module}:{alias.name}"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == vreid._HOMES


def test_importing_it_or_the_program_imports_nothing_else_and_leaves_the_collector_alone() -> None:
    code = (
        "import gc, sys; before = {*sys.modules}; import vreid_cli.__main__; "
        "print(gc.isenabled(), gc.get_freeze_count(), *sorted({*sys.modules} - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {*done.stdout.split()} - {"__future__"} == {"True", "0", "vreid_cli", "vreid_cli.__main__"}


def test_an_unknown_name_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'rnk'"):
        vreid.rnk  # noqa: B018


def test_the_whole_way_of_the_docstring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    draw_tracks(Path("tracks"), TRACKS)
    assert vreid.__doc__
    lines = [line.removeprefix("    ") for line in vreid.__doc__.splitlines() if line.startswith("    ")]
    code = "\n".join(lines).replace('"imagenet", arch="densenet201"', '"random", arch="resnet18"')
    found: dict[str, Any] = {}
    exec(code, found)
    assert found["scores"].valid_queries == 4
    assert found["sheet"]._repr_png_().startswith(b"\x89PNG")
