"""Extraction into memory: what a notebook calls."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from vreid_cli.data.boxes import name_crop
from vreid_cli.data.listing import DataFolders, Listing, list_images, make_listing, require_folder
from vreid_cli.data.tracks import read_tracks
from vreid_cli.engines.engine import Engine
from vreid_cli.engines.local import LocalEngine
from vreid_cli.errors import DataError, UsageError, require_type
from vreid_cli.extraction.compute import compute_parts
from vreid_cli.extraction.loading import Preparation, sample_pixels
from vreid_cli.extraction.options import ExtractionOptions
from vreid_cli.extraction.parts import first_parts
from vreid_cli.extraction.resolve import check_inference, resolve_inference
from vreid_cli.extraction.split import check_any_left, look_at_tracks
from vreid_cli.models.onnx_cache import INT8_IMAGES
from vreid_cli.models.weights import AnyNetwork
from vreid_cli.runtime.devices import choose_device
from vreid_cli.runtime.objects import as_path
from vreid_cli.runtime.options import RuntimeOptions
from vreid_cli.store.parts import Skipped
from vreid_cli.types.arrays import Labels
from vreid_cli.types.features import ArrayMatrix, FeatureSet
from vreid_cli.types.images import ImageRecord
from vreid_cli.types.labels import LabelPattern


def extract(
    images: str | Path | Sequence[str | Path | ImageRecord] | Listing,
    network: AnyNetwork,
    *,
    options: ExtractionOptions | None = None,
    runtime: RuntimeOptions | None = None,
    engine: Engine | None = None,
    cache_dir: Path | None = None,
) -> FeatureSet:
    """Latent representations of images, in memory.

    They are those that ``vreid extract`` writes, bit for bit where batches and threads are the same.

    Args:
        images: What :func:`vreid_cli.read_images` lists of a data set, a folder with a folder per track, a folder of
            images, paths of images, or records with labels of their own. Else labels are read from names as
            ``0002_c001_….jpg``. Ids of single files and records are paths relative to their common folder.
        network: From :func:`vreid_cli.load_network`; it is not changed.
        options: Precision, back-end, batches, decoding.
        runtime: The device.
        engine: Maps the computing over parts; None for this process.
        cache_dir: Where exports to ONNX are kept; None for the user's cache folder.

    Returns:
        The features in gallery order, whatever the order of ``images``. ``warnings`` names images that cannot be used.

    Raises:
        DataError: There are no images, or none can be used; with ``options.strict``, one cannot.
        UsageError, DeviceError: The device is not there or cannot compute as asked.

    Example:
        >>> import vreid_cli as vreid
        >>> from PIL import Image
        >>> Image.new("RGB", (60, 40), "red").save("0002_c001_1.jpg")
        >>> network = vreid.load_network("random", arch="resnet18")
        >>> features = vreid.extract(["0002_c001_1.jpg"], network)
        >>> len(features), features.dimension, features.camera_id[0]
        (1, 512, 'c001')
    """
    options, runtime = options or ExtractionOptions(), runtime or RuntimeOptions()
    if isinstance(network, str | Path):
        raise UsageError(f"network: {network} names one", hint=f"load it: vreid.load_network({str(network)!r})")
    device = choose_device(runtime.device)
    check_inference(options, device)
    listing = images if isinstance(images, Listing) else _list(images)
    records = listing.records
    sample = functools.partial(
        sample_pixels, Preparation(records, network.transform, options.max_pixels), count=INT8_IMAGES, seed=0
    )
    inference = resolve_inference(
        network, options, device=device, images=len(records), cache_dir=cache_dir, sample=sample
    )
    matrix = np.empty((len(records), inference.dimension), dtype=np.float32)
    kept = np.zeros(len(records), dtype=np.bool_)
    skipped: list[Skipped] = []
    compute = functools.partial(compute_parts, inference=inference, options=options)
    parts = first_parts(records, part_images=options.part_images)
    for result in (engine or LocalEngine()).map(compute, parts):
        rows = result.part.rows[result.kept]
        matrix[rows], kept[rows] = result.features, True
        skipped += result.skipped
    check_any_left(listing, skipped)
    _, warnings = look_at_tracks(listing, skipped)
    track, vehicle, camera = (
        Labels(records.codes(name), records.labels(name).dictionary)[kept]
        for name in ("track_id", "vehicle_id", "camera_id")
    )
    return FeatureSet(
        ArrayMatrix(matrix if kept.all() else matrix[kept]),
        image_id=Labels(np.flatnonzero(kept), records.image_ids()),
        track_id=track,
        vehicle_id=vehicle,
        camera_id=camera,
        source=str(listing.image_root),
        identity=inference.identity,
        dataset=listing.dataset,
        protocol=listing.protocol,
        image_root=str(listing.image_root),
        weights=network.weights,
        warnings=(*warnings, *network.warnings),
    )


def _list(images: str | Path | Sequence[str | Path | ImageRecord]) -> Listing:
    """The images of a folder, or those that are named."""
    if isinstance(images, str | Path):
        folder = require_folder(as_path(images))
        if any(path.is_dir() for path in folder.iterdir()):
            return read_tracks(DataFolders(gallery_dir=folder), "gallery")
        return _list_records(folder, [_labelled(folder / name) for name in list_images(folder)])
    require_type(images, Sequence, name="images", hint="a folder, a list of paths, or what vreid.read_images gives")
    if not images:
        raise DataError("no images were named")
    records = [image if isinstance(image, ImageRecord) else _labelled(as_path(image)) for image in images]
    return _list_records(Path(os.path.commonpath([one.path.absolute().parent for one in records])), records)


def _labelled(path: Path) -> ImageRecord:
    """An image without a track; labels as its name says."""
    labels = LabelPattern.compile(None).read(path.name)
    return ImageRecord(path.name, path, None, labels.vehicle_id, labels.camera_id, labels.frame)


def _list_records(folder: Path, records: Sequence[ImageRecord]) -> Listing:
    named = [replace(one, image_id=one.path.absolute().relative_to(folder.absolute()).as_posix()) for one in records]
    crops = [one if one.box is None else replace(one, image_id=name_crop(one.image_id, one.box)) for one in named]
    return make_listing(crops, folder)
