"""Pages as their readers use them: the blocks of code in a page, and a folder in which their commands can be typed."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from graphs import write_graph
from tiny import draw, draw_tracks, save_weights
from videos import draw_scene

from vreid_cli.cli.app import run
from vreid_cli.synthetic.options import SyntheticOptions
from vreid_cli.synthetic.veri_set import render_veri

_BLOCK = re.compile(r"(?:^<!-- needs: (?P<needs>.+?) -->\n)?^```(?P<language>\w*)\n(?P<code>.*?)^```$", re.M | re.S)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        language: ``console``, ``python``, or another, "" for none.
        code: What stands in it.
        needs: What it needs that a test has not, as the comment ``<!-- needs: … -->`` above it says; None for nothing.
    """

    language: str
    code: str
    needs: str | None

    def commands(self) -> list[str]:
        """The lines of a console, each whole, without comments."""
        whole = self.code.replace("\\\n", " ")
        lines = [re.sub(r"(^|\s)#.*", "", line).strip() for line in whole.splitlines()]
        return [line for line in lines if line]


def blocks(page: Path) -> Iterator[Block]:
    """All fenced blocks of a page, in order."""
    for found in _BLOCK.finditer(page.read_text(encoding="utf-8")):
        yield Block(found["language"], found["code"], found["needs"])


def furnish(folder: Path) -> None:
    """Make everything that the pages name: images, tables, videos, features, a run; all of it small."""
    labelled = {f"query/{vehicle:04}_c001": 1 for vehicle in range(1, 13)}
    labelled |= {f"gallery/{vehicle:04}_c002": 1 for vehicle in range(1, 13)}
    draw_tracks(folder / "labelled", labelled)
    own = {"query/0001_c001": 1, "gallery/0001_c002": 2, "gallery/0002_c002": 1}
    draw_tracks(folder / "my_tracks", {"query/white_van": 2, "gallery/cam2_000017": 2, "gallery/cam3_000004": 1, **own})
    draw_tracks(folder / "case", {"query/white_van": 2, "gallery/cam2_000017": 2, "gallery/cam3_000004": 1})
    _write_tables(folder)
    draw_scene(folder / "scene")
    (folder / "scene/cameras.toml").write_text("fps = 10\n", encoding="utf-8")
    (folder / "ways.csv").write_text("camera_a,camera_b,min_s,max_s\nc1,c2,0,60\n", encoding="utf-8")
    write_graph(folder / "theirs.onnx", images=("N", 3, 32, 32))
    _write_features(folder)
    for line in ("extract --dataset tracks --data-dir my_tracks", "rank", "rank --metric RSCR"):
        assert run([*line.split(), "--quiet"]) == 0


def furnish_veri(folder: Path) -> None:
    """A tiny ``VeRi``, and settings by which a tiny network stands in for the authors', which must be downloaded."""
    options = SyntheticOptions(train_vehicles=2, test_vehicles=3, cameras=2, images_per_track=2)
    render_veri(folder / "VeRi", options)
    save_weights(folder / "tiny.safetensors")
    settings = '[model]\narch = "resnet18"\nweights = "tiny.safetensors"\n'
    (folder / "vreid.toml").write_text(settings, encoding="utf-8")
    shutil.rmtree(folder / "runs")


def _write_tables(folder: Path) -> None:
    rows = ["path,split,vehicle,camera"]
    for vehicle in range(8):
        split = "train" if vehicle < 4 else None
        for camera, side in (("north", "query"), ("south", "gallery")):
            draw(folder / f"images/{vehicle}_{camera}.png", hue=vehicle, seed=len(rows))
            rows.append(f"images/{vehicle}_{camera}.png,{split or side},{vehicle},{camera}")
    (folder / "cars.csv").write_text("\n".join(rows), encoding="utf-8")
    boxes = ["path,split,track,camera,frame,x,y,w,h"]
    for frame, split in enumerate(("query", "gallery", "gallery")):
        draw(folder / f"cam{frame}/000001.png", hue=frame)
        boxes.append(f"cam{frame}/000001.png,{split},{frame},cam{frame},1,6,8,24,16")
    (folder / "boxes.csv").write_text("\n".join(boxes), encoding="utf-8")


def _write_features(folder: Path) -> None:
    random = np.random.default_rng(0)
    for side, camera in (("query", "c001"), ("gallery", "c002")):
        names = [f"{vehicle:04}_{camera}" for vehicle in range(1, 4) for _ in range(2)]
        made = random.normal(size=(len(names), 8)).astype(np.float32)
        labels = {"track_id": names, "vehicle_id": [n[:4] for n in names], "camera_id": [camera] * len(names)}
        np.savez(folder / f"{side}.npz", features=made, **labels)
        rows: Mapping[str, list[list[float]]] = {name: made[names.index(name) :][:2].tolist() for name in names}
        (folder / f"feat_{'test' if side == 'gallery' else side}.json").write_text(json.dumps(rows), encoding="utf-8")
