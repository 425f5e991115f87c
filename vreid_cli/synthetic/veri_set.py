"""The synthetic set on disk, with VeRi-776's names, folders and lists."""

from __future__ import annotations

import shutil
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vreid_cli.errors import DataError, UsageError
from vreid_cli.runtime.progress import progress
from vreid_cli.synthetic.cameras import make_cameras
from vreid_cli.synthetic.options import SyntheticOptions
from vreid_cli.synthetic.passages import Shot, choose_queries, plan_shots
from vreid_cli.synthetic.rendering import render_vehicle
from vreid_cli.synthetic.vehicles import make_vehicles


@dataclass(frozen=True)
class SyntheticSet:
    """A set on disk: its folder, and how many images and tracks it holds."""

    root: Path
    train_images: int
    test_images: int
    query_images: int
    train_tracks: int
    test_tracks: int


def render_veri(root: Path, options: SyntheticOptions | None = None, *, seed: int = 0) -> SyntheticSet:
    """Render a data set in VeRi-776's layout, with all its lists; the same options and seed give the same bytes.

    The bytes hold for one version of NumPy and Pillow.

    Args:
        root: Folder to write into; created where it does not exist.
        options: How much to render.
        seed: Makes vehicles, cameras and images; not negative.

    Raises:
        UsageError: The seed is negative.
        DataError: ``root`` is no folder or not empty, or cannot be written.

    Examples:
        >>> from pathlib import Path
        >>> options = SyntheticOptions(train_vehicles=2, test_vehicles=2, cameras=2, images_per_track=1)
        >>> made = render_veri(Path("VeRi"), options, seed=3)
        >>> made.query_images, len(list(Path("VeRi/image_query").iterdir()))
        (4, 4)
    """
    options = options or SyntheticOptions()
    if seed < 0:
        raise UsageError(f"seed is {seed}; it must be at least 0")
    if root.exists() and not (root.is_dir() and not any(root.iterdir())):
        raise DataError(f"{root} is not an empty folder", hint="choose a new folder for the synthetic set", file=root)
    train, test = _plan_splits(options, seed=seed)
    queries = choose_queries(test, np.random.default_rng((seed, 3)))
    try:
        with progress(total=len(train) + len(test), what="rendering", unit="img") as bar:
            for number, (split, shots) in enumerate((("train", train), ("test", test))):
                folder = root / f"image_{split}"
                folder.mkdir(parents=True)
                for position, shot in enumerate(shots):
                    # From its own place in the sequence, so that an image does not depend on those before it.
                    rng = np.random.default_rng((seed, 4, number, position))
                    image = render_vehicle(shot.vehicle, shot.camera, azimuth=shot.azimuth, rng=rng)
                    image.save(folder / shot.name, quality=shot.camera.quality)
                    bar.update(1)
                _write_lists(root, split, shots=shots)
        (root / "image_query").mkdir()
        for query in queries:
            shutil.copyfile(root / "image_test" / query.name, root / "image_query" / query.name)
        _write_truth(root, queries, shots=test)
    except OSError as error:
        raise DataError(f"{root} cannot be written: {error.strerror or error}", file=root) from error
    train_tracks, test_tracks = (len({shot.track for shot in shots}) for shots in (train, test))
    return SyntheticSet(root, len(train), len(test), len(queries), train_tracks, test_tracks)


def _plan_splits(options: SyntheticOptions, *, seed: int) -> list[list[Shot]]:
    """The images of the train and of the test vehicles, seen by the same cameras."""
    cameras, clock = make_cameras(options.cameras, seed=seed), Counter[str]()
    splits, first = [], 1
    for number, count in enumerate((options.train_vehicles, options.test_vehicles)):
        vehicles = make_vehicles(count, first, key=(seed, 1, number))
        rng = np.random.default_rng((seed, 2, number))
        images = options.images_per_track
        splits.append(plan_shots(vehicles, cameras, images_per_track=images, clock=clock, rng=rng))
        first += count
    return splits


def _write_lists(root: Path, split: str, *, shots: Sequence[Shot]) -> None:
    """``name_<split>.txt``, ``<split>_track.txt`` and ``<split>_label.xml``."""
    tracks: dict[str, list[str]] = defaultdict(list)
    for shot in shots:
        tracks[shot.track].append(shot.name)
    _write_lines(root / f"name_{split}.txt", [shot.name for shot in shots])
    _write_lines(root / f"{split}_track.txt", [f"{track} {' '.join(names)} " for track, names in tracks.items()])
    items = [
        f'        <Item imageName="{shot.name}" vehicleID="{shot.vehicle.vehicle_id}" '
        f'cameraID="{shot.camera.camera_id}" colorID="{shot.vehicle.colour_id}" typeID="{shot.vehicle.type_id}" />'
        for shot in shots
    ]
    element = "TrainingImages" if split == "train" else "TestImages"
    head = ['<?xml version="1.0" encoding="gb2312" ?>', f'<{element} Version="1.0">']
    lines = [*head, f'    <Items number="{len(shots)}">', *items, "    </Items>", f"</{element}>"]
    _write_lines(root / f"{split}_label.xml", lines)


def _write_truth(root: Path, queries: Sequence[Shot], *, shots: Sequence[Shot]) -> None:
    """``name_query.txt``, and the good and junk positions in ``name_test.txt`` for each query, counted from 1."""
    _write_lines(root / "name_query.txt", [query.name for query in queries])
    good, junk = [], []
    for query in queries:
        same = [(k, shot) for k, shot in enumerate(shots, 1) if shot.vehicle is query.vehicle]
        good.append("".join(f"{k} " for k, shot in same if shot.pair != query.pair))
        junk.append("".join(f"{k} " for k, shot in same if shot.pair == query.pair))
    _write_lines(root / "gt_index.txt", good)
    _write_lines(root / "jk_index.txt", junk)


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    """Lines that end as in the release, with CR and LF; everything in them is ASCII, and so gb2312 too."""
    path.write_bytes("".join(f"{line}\r\n" for line in lines).encode("ascii"))
