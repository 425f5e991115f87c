"""README and the pages of docs/ cannot lie: what they say to type runs as it stands there.

A block that needs more than a test has (a GPU, a download, a data set) says so in a comment above it:
``<!-- needs: a GPU -->``. Its ``vreid`` lines are still read as the program reads them, up to their settings.
"""

from __future__ import annotations

import re
import shlex
import shutil
import tomllib
from pathlib import Path

import pytest
from readers import Block, blocks, furnish, furnish_veri

from vreid_cli.cli.app import run

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/*.md")])
EXTRAS = set(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"])


@pytest.fixture(scope="module")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("furnished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        furnish(folder)
    return folder


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("page", [page for page in PAGES if any(blocks(page))], ids=lambda page: page.name)
def test_what_a_page_says_to_type_runs(
    page: Path, furnished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "reader"
    shutil.copytree(furnished, folder)
    monkeypatch.chdir(folder)
    monkeypatch.delenv("VREID_DATA_DIR", raising=False)
    if page.name == "veri.md":
        furnish_veri(folder)
    names: dict[str, object] = {}
    for block in blocks(page):
        if block.language == "console":
            for line in block.commands():
                _type(line, block, capsys)
        elif block.language == "python" and block.needs is None:
            exec(block.code, names)
    assert "Traceback" not in capsys.readouterr().err


def test_the_quick_start_lists_every_extra() -> None:
    table = (ROOT / "docs/quick-start.md").read_text(encoding="utf-8").partition("## Extras")[2]
    rows = re.findall(r"^\| (`.+?) \|", table, flags=re.MULTILINE)
    assert sorted(name for row in rows for name in re.findall(r"`(\w+)`", row)) == sorted(EXTRAS)


def _type(line: str, block: Block, capsys: pytest.CaptureFixture[str]) -> None:
    """Do what a shell would do with a line, as far as a test may."""
    if installed := re.search(r'pip install (?:-e )?"?(?:\.|vreid)(?:\[([\w,]+)\])?', line):
        asked = set((installed[1] or "").split(",")) - {""}
        assert asked <= EXTRAS, line
        return
    if block.needs is not None:
        for command in re.findall(r"\bvreid [^&|;]+", line):
            arguments = shlex.split(command.replace("$net", "resnet18"))[1:]
            # What it needs may be missing, which is an error to fix (1); usage must be right.
            assert run([*arguments, "--show-config"]) in (0, 1), f"{command}\n{capsys.readouterr().err}"
        return
    program, *arguments = shlex.split(line)
    assert program == "vreid", f"{line!r} cannot be run here: say what it needs in a comment above the block"
    assert run(arguments) == 0, f"{line}\n{capsys.readouterr().err}"
