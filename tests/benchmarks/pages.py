"""A report page of VeRi's size: how long it takes to make, how large it is, how long Chromium takes to open it.

    python tests/benchmarks/pages.py FOLDER_OF_CROPS

The crops are repeated until there are as many as VeRi's test tracks hold; the features are random.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import vreid_cli as vreid

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
from browser import start_chromium

QUERIES, TRACKS, IMAGES, WIDTH, TOP = 1677, 2021, 11579, 512, 20


def make_gallery(crops: Path, folder: Path) -> vreid.FeatureSet:
    """Tracks of one to about fifteen images, a file for each."""
    rng = np.random.default_rng(0)
    sources = sorted(crops.rglob("*.jpg"))
    lengths = 1 + rng.multinomial(IMAGES - TRACKS, np.ones(TRACKS) / TRACKS)
    track = np.repeat(np.arange(TRACKS), lengths)
    names = [f"{number:05}.jpg" for number in range(IMAGES)]
    for number, name in enumerate(names):
        shutil.copyfile(sources[number % len(sources)], folder / name)
    vehicles = rng.normal(size=(200, WIDTH))
    features = 0.35 * vehicles[track % 200] + rng.normal(size=(IMAGES, WIDTH))
    return vreid.FeatureSet.from_arrays(
        features.astype(np.float32),
        track_id=[f"{one % 200:04}_c{one % 19:03}_t{one:04}" for one in track.tolist()],
        image_id=names,
        vehicle_id=[f"{one % 200:04}" for one in track.tolist()],
        camera_id=[f"c{one % 19:03}" for one in track.tolist()],
    ).at(folder)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("crops", type=Path)
    crops = parser.parse_args().crops
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "images").mkdir()
        gallery = make_gallery(crops, folder / "images")
        first = list(dict.fromkeys(gallery.track_id))[:QUERIES]
        query = gallery.select(np.flatnonzero(np.isin(gallery.track_id, first)))
        ranking = vreid.rank(query, gallery)["meanMCD50"]
        for what in ("thumbnails made", "thumbnails kept"):
            start = time.perf_counter()
            page = vreid.report(
                ranking,
                query=query,
                gallery=gallery,
                options=vreid.ShowOptions(top=TOP),
                thumbnails=folder / "kept",
            )
            page.save(folder / "page.html")
            print(f"{what}: {time.perf_counter() - start:.1f} s")
        print(f"{(folder / 'page.html').stat().st_size / 1e6:.1f} MB, {len(page.nearest):,} queries x {TOP}")
        with start_chromium() as chromium:
            taken = []
            for _ in range(5):
                start = time.perf_counter()
                with chromium.open(folder / "page.html") as opened:
                    opened.page.locator(".match img").first.wait_for()
                    taken.append(time.perf_counter() - start)
        print(f"opens in {statistics.median(taken):.2f} s ({min(taken):.2f} to {max(taken):.2f})")


if __name__ == "__main__":
    main()
