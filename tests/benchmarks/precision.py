"""What ``vreid extract --precision`` changes in the results of a trained network.

    python tests/benchmarks/precision.py FOLDER CHECKPOINT [--precisions bf16 fp16]

FOLDER is that of training.py, CHECKPOINT what was trained there: the vehicles that are looked for were never learned.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import pyarrow.parquet as pq
from made import machine
from training import vreid, write_manifest


def look_for(folder: Path, checkpoint: Path, precision: str) -> tuple[float, dict[str, str]]:
    """MAP, image to image by the cosine, and the nearest gallery picture of each query."""
    vreid(
        folder,
        *("extract", "--dataset", "csv", "--data-dir", "cars.csv", "--run-dir", precision, "--precision", precision),
        *("--weights", str(checkpoint.resolve()), "--quiet"),
    )
    vreid(folder, "rank", "--run-dir", precision, "--task", "i2i", "--metric", "MCD", "--quiet")
    result = json.loads(vreid(folder, "evaluate", "--run-dir", precision, "--json", "--quiet"))["results"][0]
    rows = pq.read_table(folder / precision / "rankings" / "i2i-MCD.parquet", filters=[("rank", "=", 1)]).to_pydict()
    return result["mAP"], dict(zip(rows["query_id"], rows["gallery_id"], strict=True))


def main() -> None:
    """Compare with fp32."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--precisions", nargs="+", default=["bf16", "fp16"])
    options = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_manifest(options.folder, folder / "cars.csv")
        expected, nearest = look_for(folder, options.checkpoint, "fp32")
        print(f"fp32: mAP {expected:.4f}, {len(nearest)} queries")
        for precision in options.precisions:
            found, other = look_for(folder, options.checkpoint, precision)
            same = sum(other[query] == gallery for query, gallery in nearest.items()) / len(nearest)
            print(
                f"{precision}: mAP {found:.4f}, a change of {found - expected:+.4f} (target 0.002); "
                f"the same nearest picture for {same:.1%} of the queries (target 99%)"
            )


if __name__ == "__main__":
    main()
