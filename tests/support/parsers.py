"""Everything that reads a file, each with a file that it reads, for fuzzing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vreid_cli.config import read_layer, resolve
from vreid_cli.data.clocks import read_clocks, read_travel_times
from vreid_cli.data.decoding import BadImageError, decode_rgb
from vreid_cli.data.layouts import LAYOUTS
from vreid_cli.data.listing import DataFolders
from vreid_cli.data.trackers import read_mot_text, read_ottrk, read_ultralytics_labels
from vreid_cli.data.veri_truth import read_truth
from vreid_cli.data.video import probe_video, read_frames
from vreid_cli.models.checkpoint import read_checkpoint
from vreid_cli.models.inputs import InputOptions
from vreid_cli.models.onnx_file import read_onnx
from vreid_cli.store.calibrations import read_calibration
from vreid_cli.store.features import FeatureStore
from vreid_cli.store.formats import read_features, read_ranking
from vreid_cli.store.identities import is_identities, read_identities
from vreid_cli.store.image_index import IndexFolder
from vreid_cli.store.metadata import read_metadata
from vreid_cli.store.plan import Plan
from vreid_cli.store.review import read_review
from vreid_cli.store.runs import RunDirectory, latest_run
from vreid_cli.training.state import read_state

Read = Callable[[Path], object]


@dataclass(frozen=True)
class Parser:
    """What reads a file.

    Attributes:
        read: Reads it, all of it.
        sample: A file of the fault table's world.
        place: Where it must lie to be read, below an empty folder.
    """

    read: Read
    sample: str
    place: str = "file"


def _ranking(path: Path) -> object:
    return [block.rank.sum() for block in read_ranking(path).blocks]


def _features(path: Path) -> object:
    features = read_features(path)
    return features.matrix.take(np.arange(len(features)))


def _layout(dataset: str, split: str = "gallery") -> Read:
    def read(path: Path) -> object:
        # The folder of the data set is the one that holds everything else of it.
        root = next(folder for folder in path.parents if (folder / "root").exists())
        return LAYOUTS[dataset].read(DataFolders(root), split).records[0]  # type: ignore[arg-type]

    return read


def _part(path: Path) -> object:
    store = FeatureStore(path.parent)
    return store.read_facts(0), store.read_part(0).is_intact(), store.version()


def _complete(path: Path) -> object:
    return FeatureStore(path.parent).read_complete()


def _video(path: Path) -> object:
    return probe_video(path), [content for _, content in read_frames(path, [1, 3])]


def _truth(path: Path) -> object:
    return read_truth(path.parent)


def _identities(path: Path) -> object:
    return is_identities(path), read_identities(path).tracks.ids


def _image(path: Path) -> object:
    try:
        return decode_rgb(path, max_pixels=10_000)
    except BadImageError as error:
        return error


def _onnx(path: Path) -> object:
    return read_onnx(path, weights="theirs", options=InputOptions(preset="openvino"))


RUN = "runs/r"
GALLERY = f"{RUN}/features/gallery"
TEST_LIST, CAMERAS = "train_test_split/test_list_800.txt", "train_test_split/vehicle_info.txt"
PARSERS: Mapping[str, Parser] = {
    "settings": Parser(lambda path: resolve([read_layer(path)]), "vreid.toml"),
    "features as JSON": Parser(_features, "feat_test.json", "f.json"),
    "features as npz": Parser(_features, "feat_test.npz", "f.npz"),
    "ranking as JSON": Parser(_ranking, "ranking.json", "r.json"),
    "ranking as Parquet": Parser(_ranking, f"{RUN}/rankings/t2t-minMED.parquet", "r.parquet"),
    "identities": Parser(_identities, f"{RUN}/identities/meanMCD50.parquet", "i.parquet"),
    "identities as CSV": Parser(_identities, f"{RUN}/identities/meanMCD50.csv", "i.csv"),
    "part": Parser(_part, f"{GALLERY}/part-00000.arrow", "part-00000.arrow"),
    "plan": Parser(Plan.read, f"{GALLERY}/plan.parquet"),
    "complete.json": Parser(
        lambda path: FeatureStore(path.parent).read_complete(), f"{GALLERY}/complete.json", "complete.json"
    ),
    "run.json": Parser(lambda path: RunDirectory(path.parent).read_info(), f"{RUN}/run.json", "run.json"),
    "history": Parser(lambda path: RunDirectory(path.parent).read_history(), f"{RUN}/history.jsonl", "history.jsonl"),
    "latest": Parser(lambda path: latest_run(path.parent), "runs/latest", "latest"),
    "calibration": Parser(read_calibration, f"{RUN}/calibrations/t2t-minMED.json"),
    "marks": Parser(read_review, "reviewed.csv"),
    "clocks": Parser(lambda path: read_clocks(path, ["c001", "c002"]), "clocks.toml"),
    "travel times": Parser(read_travel_times, "ways.csv"),
    "manifest": Parser(lambda path: LAYOUTS["csv"].read(DataFolders(path), "gallery").records[0], "cars.csv"),
    "tracker's text": Parser(read_mot_text, "scene/c1/mtsc/sort.txt"),
    "tracker's bzip2": Parser(read_ottrk, "otc/c1/c1.ottrk"),
    "list of names": Parser(_layout("veri"), "veri/name_test.txt", "name_test.txt"),
    "list of tracks": Parser(_layout("veri"), "veri/test_track.txt", "test_track.txt"),
    "list of vehicles": Parser(_layout("vehicleid"), f"vehicleid/{TEST_LIST}", TEST_LIST),
    "list of cameras": Parser(_layout("veri-wild"), f"wild/{CAMERAS}", CAMERAS),
    "label file": Parser(_layout("aicity", "train"), "aicity/train_label.xml", "train_label.xml"),
    "image": Parser(_image, "vric/gallery_images/a.jpg", "a.jpg"),
    "checkpoint": Parser(read_checkpoint, "runs/trained/checkpoints/last.safetensors", "c.safetensors"),
    "pickled checkpoint": Parser(read_checkpoint, "weights.pth", "c.pth"),
    "metadata": Parser(read_metadata, "runs/trained/checkpoints/last.safetensors"),
    "training state": Parser(read_state, "runs/trained/checkpoints/resume.safetensors"),
    "video": Parser(_video, "film/c1/vdo.avi", "v.avi"),
    "tracker's labels": Parser(
        lambda path: read_ultralytics_labels(path.parent, (24, 20)), "labels/c1/labels/c1_1.txt", "c1_1.txt"
    ),
    "VeRi's index of right images": Parser(_truth, "veri/gt_index.txt", "gt_index.txt"),
    "facts of an index": Parser(
        lambda path: IndexFolder(path.parent).read_facts("cosine"), f"{RUN}/index/cosine.json", "cosine.json"
    ),
    "ONNX": Parser(_onnx, "net.onnx", "n.onnx"),
}


def write_more_samples(world: Path) -> None:
    """Samples that no command of the fault table's world needs."""
    import torch

    torch.save({"features.weight": torch.zeros(2)}, world / "weights.pth")
