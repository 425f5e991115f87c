"""Images and weights so small that a whole extraction takes a fraction of a second."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from vreid_cli.cli.app import run
from vreid_cli.models.backbones import BACKBONES
from vreid_cli.models.checkpoint import save_checkpoint
from vreid_cli.models.network import build_random
from vreid_cli.models.transforms import Transform
from vreid_cli.store.rankings import RANKING_SCHEMA

#: Four vehicles; each query is seen again by another camera, 0001 and 0002 by its own camera too.
TRACKS = {
    **{f"query/{track}": 3 for track in ("0001_c001", "0002_c002", "0003_c001")},
    "query/0004_c003": 1,
    **{f"gallery/{track}": 2 for track in ("0001_c001_again", "0001_c002", "0002_c002_again")},
    **{f"gallery/{track}": 2 for track in ("0002_c003", "0003_c002")},
    "gallery/0004_c001": 4,
    "gallery/0009_c001": 1,
}
QUERIES = sorted(name.removeprefix("query/") for name in TRACKS if name.startswith("query/"))
GALLERY = sorted(name.removeprefix("gallery/") for name in TRACKS if name.startswith("gallery/"))
TRACK_METRICS = [
    *("minMED", "meanMED", "medMED", "meanMED50", "medMED50"),
    *("minMCD", "meanMCD", "medMCD", "meanMCD50", "medMCD50"),
    "RSCR",
]
EXTRACT = ("extract", "--dataset", "tracks", "--arch", "resnet18")


def draw(path: Path, *, hue: int = 0, seed: int = 0) -> Path:
    """A small image: the hue makes the vehicle, the seed everything else."""
    rng = np.random.default_rng([hue, seed])
    pixels = rng.integers(0, 60, (30, 36, 3))
    pixels[8:24, 6:30] += np.array([(37 * hue) % 190, (91 * hue) % 190, (53 * hue) % 190])
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


def draw_tracks(root: Path, tracks: dict[str, int]) -> Path:
    """The layout ``tracks``: ``{"query/0001_c001": 3}`` draws three images of vehicle 0001."""
    for number, (track, images) in enumerate(tracks.items()):
        vehicle = re.search(r"\d+", Path(track).name)
        hue = int(vehicle.group()) if vehicle else number
        for index in range(images):
            draw(root / track / f"{index}.png", hue=hue, seed=1000 * number + index)
    return root


def save_weights(path: Path, arch: str = "resnet18", *, side: int = 32, seed: int = 7) -> Path:
    """A network that was never trained, for small images: it is a file, so nothing calls it random."""
    network = build_random(BACKBONES[arch], seed=seed)
    save_checkpoint(path, network, transform=Transform(resize=side + 2, crop=side), facts={"made": "for tests"})
    return path


class Vreid:
    """Runs commands in this process and keeps what they printed.

    Attributes:
        out: Standard output of the last command.
        err: Standard error of the last command.
    """

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.out = ""
        self.err = ""

    def __call__(self, *arguments: str | Path, code: int = 0) -> str:
        """Run one command, check its exit code, and return its standard output."""
        self._capsys.readouterr()
        found = run([str(argument) for argument in arguments])
        self.out, self.err = self._capsys.readouterr()
        assert found == code, f"exit code {found}\n{self.out}\n{self.err}"
        assert "Traceback" not in self.err
        return self.out

    def json(self, *arguments: str | Path, code: int = 0) -> dict[str, Any]:
        """The one object that ``--json`` prints."""
        value: dict[str, Any] = json.loads(self(*arguments, "--json", code=code))
        assert value["schema"] == 1
        return value

    def error(self, *arguments: str | Path, code: int = 1) -> dict[str, str]:
        """The error that a command ends with, the same for people and programs; "" where it says nothing."""
        self(*arguments, code=code)
        assert self.out == ""
        told = self.err
        error: dict[str, str | None] = self.json(*arguments, code=code)["error"]
        assert set(error) == {"message", "hint", "file"}
        assert f"error: {error['message']}" in told
        assert error["hint"] is None or f"hint:  {error['hint']}" in told
        return {key: value or "" for key, value in error.items()}


def columns(path: Path) -> dict[str, list[object]]:
    """A ranking's rows, without its metadata."""
    table: dict[str, list[object]] = pq.read_table(path).to_pydict()
    assert list(table) == RANKING_SCHEMA.names
    return table


def judge(results: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Evaluations by the file name of their ranking."""
    return {Path(result["ranking"]).name: result for result in results}


def read_grid(told: str, title: str) -> dict[tuple[str, str, str], str]:
    """The cells of the first printed grid below a title, by score, metric and network; the mark stays on them."""
    lines = iter(told[told.index(title) :].splitlines())
    heads: list[list[str]] = []
    cells: dict[tuple[str, str, str], str] = {}
    score = ""
    for line in lines:
        parts = [part.strip() for part in re.split("[│┃]", line)[1:-1]]
        if line.startswith("┃"):
            heads.append(parts)
        elif line.startswith("│"):
            networks = [" ".join(filter(None, column)) for column in zip(*heads, strict=True)][2:]
            score = parts[0] or score
            cells |= {(score, parts[1], network): cell for network, cell in zip(networks, parts[2:], strict=True)}
        elif line.startswith("└"):
            break
    return cells
