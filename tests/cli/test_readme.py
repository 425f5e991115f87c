"""The README's way through the library runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tiny import draw_tracks

README = Path(__file__).resolve().parents[2] / "README.md"


@pytest.mark.usefixtures("one_thread")
def test_the_way_through_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    draw_tracks(
        Path("my_tracks"), {"query/0001_c001": 2, "query/0002_c001": 1, "gallery/0001_c002": 2, "gallery/0002_c003": 1}
    )
    (block,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    exec(block, {})
    scores, why = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"mAP [01]\.\d{3}, rank-1 [01]\.\d{3}, 2 valid queries", scores)
    assert re.fullmatch(r"meanMCD50 = \([\d.]+ \+ [\d.]+\) / 2 = [\d.]+", why)
    assert Path("matches.png").stat().st_size > 10_000
