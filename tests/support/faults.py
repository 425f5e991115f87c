"""What can be wrong with a file, and a small world of files for every command to stumble over."""

from __future__ import annotations

import bz2
import json
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
from graphs import write_graph
from PIL import Image
from safetensors.numpy import save_file
from videos import make_frames, write_video

from vreid_cli.cli.app import run

Damage = Callable[[Path], object]
#: Bytes: more than machines have memory.
HUGE = 1 << 40


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    for place in range(len(content) // 3, len(content), max(1, len(content) // 5)):
        content[place] ^= 0xA5
    path.write_bytes(content)


def _a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _a_loop(path: Path) -> None:
    # Root may read whatever its permissions say; a link to itself nobody can follow.
    path.unlink()
    path.symlink_to(path.name)


def _an_image(path: Path) -> None:
    Image.new("RGB", (5, 4)).save(path, format="BMP")


def _grow(path: Path) -> None:
    # Without data: it takes no room on the disk, and would fill any memory.
    os.truncate(path, HUGE)


def replacing(old: str, new: str) -> Damage:
    """What a regular expression finds first is replaced; it must find something."""

    def damage(path: Path) -> None:
        text, count = re.subn(old, lambda _: new, path.read_text(encoding="utf-8"), count=1)
        assert count, f"{path} holds no {old}"
        path.write_text(text, encoding="utf-8")

    return damage


#: Of any file.
ANY: dict[str, Damage] = {
    "missing": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "cut short": _cut,
    "flipped bits": _flip,
    "of another kind": _an_image,
    "unreadable": _a_loop,
    "a folder": _a_folder,
    "huge": _grow,
}
#: Of a text file.
TEXT: dict[str, Damage] = {
    **ANY,
    "in UTF-16": lambda path: path.write_bytes(path.read_text(encoding="utf-8").encode("utf-16")),
    "in Latin-1": lambda path: path.write_bytes("ä".encode("latin-1") + path.read_bytes()),
    "NUL bytes": lambda path: path.write_bytes(path.read_bytes().replace(b"0", b"\0")),
    "one huge line": lambda path: path.write_bytes(path.read_bytes() + b"9" * 300_000),
}
#: Of a JSON file that holds an object.
JSON: dict[str, Damage] = {
    **TEXT,
    "another type": lambda path: path.write_text("[1]"),
    "a bare object": lambda path: path.write_text("{}"),
    "nested deeply": lambda path: path.write_text("[" * 100_000 + "]" * 100_000),
    "a key twice": replacing(r"\{", '{"schema": 1, "schema": 1, '),
    "all of another type": lambda path: path.write_text(json.dumps({key: [3] for key in json.loads(path.read_text())})),
}
VERSION = {"another version": replacing(r'"schema": \d', '"schema": 99')}
NUMBERS = {
    "not a number": replacing(r"-?\d\.\d+", "NaN"),
    "infinite": replacing(r"-?\d\.\d+", "1e999"),
    "beyond float32": replacing(r"-?\d\.\d+", "1e300"),
    "text for a number": replacing(r"-?\d\.\d+", '"x"'),
}


def adding(text: str) -> Damage:
    """The file has one line more."""

    def damage(path: Path) -> None:
        path.write_text(path.read_text(encoding="utf-8").rstrip("\n") + f"\n{text}\n", encoding="utf-8")

    return damage


#: Of a list: what is named before comes again.
TWICE: dict[str, Damage] = {
    "a line twice": lambda path: path.write_text(path.read_text() + path.read_text().splitlines(keepends=True)[-1])
}


def _without_frames(path: Path) -> None:
    write_video(path, [])


#: Of a video. Large ones are usual, and are read to their end.
VIDEO: dict[str, Damage] = {**ANY, "without frames": _without_frames}
del VIDEO["huge"]


def _as_npz(change: Callable[[dict[str, np.ndarray]], Mapping[str, np.ndarray]]) -> Damage:
    def damage(path: Path) -> None:
        with np.load(path) as arrays:
            changed = change(dict(arrays))
        np.savez(path, **changed)

    return damage


NPZ: dict[str, Damage] = {
    **ANY,
    "not a number": _as_npz(lambda arrays: {**arrays, "features": arrays["features"] * np.nan}),
    "objects": _as_npz(lambda arrays: {**arrays, "track_id": arrays["track_id"].astype(object)}),
    "too few labels": _as_npz(lambda arrays: {**arrays, "track_id": arrays["track_id"][:1]}),
    "no features": _as_npz(lambda arrays: {"x": arrays["features"]}),
    "contradictory labels": _as_npz(
        lambda arrays: {**arrays, "vehicle_id": np.array([f"v{k}" for k in range(len(arrays["track_id"]))])}
    ),
}


# -- the world ------------------------------------------------------------------------------------------------

VEHICLES = [f"{number:04d}" for number in range(1, 12)]
TRACKS = {"query": [f"{name}_c001" for name in VEHICLES], "gallery": [f"{name}_c002" for name in VEHICLES]}
#: An image of the first gallery track.
IMAGE = "data/gallery/0001_c002/0001_c002_00000020_0.png"


def make_world(world: Path) -> None:
    """In the current folder ``world``: images, a network of five numbers an image, a run with all that it can hold."""
    for side, tracks in TRACKS.items():
        for track in tracks:
            for index in range(2 if track == "0001_c002" else 1):
                _draw(world / "data" / side / track / f"{track}_{10 * index + 10:08d}_0.png", int(track[:4]), index)
    write_graph(world / "net.onnx", images=("N", 3, 8, 8))
    Path("vreid.toml").write_text('[model]\nweights = "net.onnx"\n[model.input]\npreset = "openvino"\n')
    _write_small_files()
    steps = (
        ("extract", "--dataset", "tracks", "--data-dir", "data", "--run-dir", "runs/r", "--quiet"),
        ("rank", "--metric", "minMED,meanMCD50"),
        ("evaluate",),
        ("index",),
        ("export", "features", "--output", ".", "--format", "lancedb"),
        ("export", "features", "--output", "."),
        ("export", "features", "--output", ".", "--format", "npz"),
        ("calibrate",),
        ("associate", "--threshold", "0.01", "--clocks", "clocks.toml"),
        ("rank", "--query-features", "feat_query.json", "--gallery-features", "feat_test.json", "-o", "ranking.json"),
    )
    for step in steps:
        code = run(list(step))
        assert code == 0, step


#: What a training leaves, as far as commands look before torch has to: the state to go on from, and a network.
_TRAINED = {"version": "1", "epoch": 1, "numbers": {}, "history": [], "facts": {"settings": {"model": {}}}}
STATES = {
    "runs/trained/checkpoints/resume.safetensors": {"vreid_training": json.dumps(_TRAINED)},
    "runs/trained/checkpoints/last.safetensors": {"architecture": "resnet18"},
}


def _draw(path: Path, vehicle: int, index: int) -> None:
    rng = np.random.default_rng([vehicle, index])
    pixels = rng.integers(0, 30, (20, 24, 3)) + np.array([vehicle * 67 % 200, vehicle * 31 % 200, vehicle * 97 % 200])
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def _write_small_files() -> None:
    paths = [path.as_posix() for side in TRACKS for path in sorted(Path("data", side).glob("*/*"))]
    rows = [f"{path},{path.split('/')[1]},{path.split('/')[2]},{path.split('/')[2][:4]}" for path in paths]
    Path("cars.csv").write_text("path,split,track,vehicle\n" + "\n".join(rows) + "\n")
    Path("reviewed.csv").write_text("query_id,gallery_id,mark\n0001_c001,0001_c002,same\n")
    Path("ways.csv").write_text("camera_a,camera_b,min_s,max_s\nc001,c002,0.5,60.5\n")
    Path("clocks.toml").write_text("fps = 10.5\n[cameras.c002]\nstart = 1.5\n")
    _write_data_sets()
    for name, facts in STATES.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        save_file({"weight": np.zeros(3, dtype=np.float32)}, name, metadata=facts)


def _write_data_sets() -> None:
    """One image or two of each layout, with the lists that come with it."""
    for name in (
        *("veri/image_query/0001_c001_00000010_0.jpg", "veri/image_test/0001_c001_00000010_0.jpg"),
        *("veri/image_test/0001_c002_00000020_0.jpg", "vric/gallery_images/a.jpg", "wild/images/00001/000001.jpg"),
        *("wild/images/00001/000002.jpg", "vehicleid/image/0000001.jpg", "vehicleid/image/0000002.jpg"),
        *("aicity/image_test/000001.jpg", "aicity/image_train/000001.jpg", "scene/c1/img1/000001.jpg"),
        *("labels/c1/img1/000001.jpg", "otc/c1/img1/000001.jpg"),
    ):
        _draw(Path(name), 1, len(name))
    write_video(Path("film/c1/vdo.avi"), make_frames(3, size=(48, 32)), codec="mpeg4")
    found = {"frame": 1, "track-id": 2, "x": 1.0, "y": 2.0, "w": 30.0, "h": 20.0, "confidence": 0.5}
    content = {"metadata": {"otdet_version": "1.2"}, "data": {"detections": [found]}}
    Path("otc/c1/c1.ottrk").write_bytes(bz2.compress(json.dumps(content).encode()))
    lists = {
        "veri/name_query.txt": "0001_c001_00000010_0.jpg \r\n",
        "veri/name_test.txt": "0001_c001_00000010_0.jpg \r\n0001_c002_00000020_0.jpg \r\n",
        "veri/test_track.txt": "0001_c001_t1 0001_c001_00000010_0.jpg \r\n0001_c002_t1 0001_c002_00000020_0.jpg \r\n",
        "veri/gt_index.txt": "2 \r\n",
        "veri/jk_index.txt": "1 \r\n",
        "vric/vric_gallery.txt": "a.jpg 12 3\n",
        "wild/train_test_split/test_3000.txt": "00001/000001\n00001/000002\n",
        "wild/train_test_split/test_3000_query.txt": "00001/000002\n",
        "wild/train_test_split/vehicle_info.txt": "id/image;Camera ID;Time\n00001/000001;2;2018\n00001/000002;3;2018\n",
        "vehicleid/train_test_split/test_list_800.txt": "0000001 7\n0000002 7\n",
        "aicity/test_track.txt": "000001.jpg\n",
        "aicity/train_track.txt": "000001.jpg\n",
        "aicity/train_label.xml": '<Items><Item imageName="000001.jpg" vehicleID="0001" cameraID="c001" /></Items>',
        "scene/c1/mtsc/sort.txt": "1,7,2,2,18,17,0.9,-1,-1,-1\n",
        "scene/c1/seqinfo.ini": "[Sequence]\nframeRate=10\n",
        "film/c1/mtsc/sort.txt": "2,7,2,2,18,17,0.9,-1,-1,-1\n",
        "labels/c1/labels/c1_1.txt": "2 0.5 0.5 1.0 1.0 0.9 7\n",
    }
    for name, text in lists.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)


def _entries(folder: str, below: str = "") -> Iterator[tuple[str, os.stat_result]]:
    """All that lies in a folder, what lies deepest first: the name, and what the system says of it."""
    with os.scandir(folder) as found:
        for entry in sorted(found, key=lambda one: one.name):
            if entry.is_dir(follow_symlinks=False):
                yield from _entries(entry.path, f"{below}{entry.name}/")
            yield f"{below}{entry.name}", entry.stat(follow_symlinks=False)


@lru_cache
def _kept(pristine: Path) -> dict[str, os.stat_result]:
    return dict(_entries(str(pristine)))


def renew(world: Path, pristine: Path) -> None:
    """Make the world what it was; at the same place, since runs know where their images lie."""
    kept = dict(_kept(pristine))
    for name, now in _entries(str(world)):
        own = kept.get(name)
        folder = stat.S_ISDIR(now.st_mode)
        if own and folder and stat.S_ISDIR(own.st_mode):
            del kept[name]
        elif folder:
            (world / name).rmdir()
        elif own and stat.S_ISREG(now.st_mode) and (now.st_size, now.st_mtime_ns) == (own.st_size, own.st_mtime_ns):
            del kept[name]
        else:
            (world / name).unlink()
    for name, own in kept.items():
        (world / name).parent.mkdir(parents=True, exist_ok=True)
        if not stat.S_ISDIR(own.st_mode):
            shutil.copy2(pristine / name, world / name)


#: What was read before, by the file, its size and its time: most files of a world never change.
_READ: dict[tuple[str, int, int], bytes] = {}


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a world, but for those that only tell what was tried."""
    found = {}
    for name, now in _entries(str(folder)):
        if (
            stat.S_ISREG(now.st_mode)
            and name.rpartition("/")[2] not in ("history.jsonl", "latest")
            and ".lock" not in name
        ):
            key = (f"{folder}/{name}", now.st_size, now.st_mtime_ns)
            if key not in _READ:
                _READ[key] = b"huge" if now.st_size == HUGE else (folder / name).read_bytes()
            found[name] = _READ[key]
    return found
