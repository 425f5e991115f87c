"""Boxes of a tracker in frames that are in memory: what a loop over a video calls."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from vreid_cli.data.decoding import BadImageError, cut_part
from vreid_cli.data.mot import track_name
from vreid_cli.errors import DataError
from vreid_cli.extraction.options import ExtractionOptions
from vreid_cli.extraction.resolve import check_inference, resolve_inference
from vreid_cli.models.transforms import Transform
from vreid_cli.models.weights import AnyNetwork
from vreid_cli.runtime.devices import choose_device
from vreid_cli.runtime.options import RuntimeOptions
from vreid_cli.types.amounts import amount
from vreid_cli.types.features import FeatureSet


class Detections(Protocol):
    """What is needed of ``supervision.Detections``: (n, 4) corners in pixels, and (n,) ids of tracks or None."""

    xyxy: NDArray[np.floating]
    tracker_id: NDArray[np.integer] | None


#: A frame's number, its pixels (H, W, 3) uint8, and what was found in it.
Frame = tuple[int, NDArray[np.uint8], Detections]
#: Pixels for the network, track, frame number.
CropPixels = tuple[torch.Tensor, str, int]


def extract_detections(
    frames: Iterable[Frame],
    network: AnyNetwork,
    *,
    camera: str,
    channels: str = "bgr",
    options: ExtractionOptions | None = None,
    runtime: RuntimeOptions | None = None,
) -> FeatureSet:
    """Latent representations of tracked boxes in frames that come one after the other, such as supervision's.

    Args:
        frames: Number, pixels and detections of each frame; boxes without a track are left out.
        network: From :func:`vreid_cli.load_network`; it is not changed.
        camera: Its name; tracks are named ``<camera>_<id>``.
        channels: ``bgr``, as OpenCV and supervision give frames, or ``rgb``.
        options: Precision and batches.
        runtime: The device.

    Returns:
        The features in the order in which they came, with their frames. ``warnings`` counts the boxes that cannot be
        used.

    Raises:
        DataError: No box can be used, or ``channels`` is something else.
        UsageError, DeviceError: The device is not there or cannot compute as asked.

    Examples:
        >>> import vreid_cli as vreid
        >>> class Found:
        ...     xyxy, tracker_id = np.array([[10.0, 10, 50, 40]]), np.array([7])
        >>> network = vreid.load_network("random", arch="resnet18")
        >>> features = extract_detections([(1, np.zeros((80, 90, 3), np.uint8), Found())], network, camera="c1")
        >>> features.track_id.tolist(), features.frame.tolist()
        (['c1_7'], [1])
    """
    if channels not in ("bgr", "rgb"):
        raise DataError(f"channels '{channels}': 'bgr' or 'rgb' is needed")
    options, runtime = options or ExtractionOptions(), runtime or RuntimeOptions()
    device = choose_device(runtime.device)
    check_inference(options, device)
    inference = resolve_inference(network, options, device=device, images=0)
    inference.prepare()
    bad: list[str] = []
    crops = _crops(frames, inference.transform, camera=camera, flip=channels == "bgr", options=options, bad=bad)
    features: list[NDArray[np.float32]] = []
    tracks: list[str] = []
    numbers: list[int] = []
    while batch := list(islice(crops, inference.config.batch_size)):
        pixels, names, own = zip(*batch, strict=True)
        features.append(inference.compute(torch.stack(pixels)).numpy())
        tracks += names
        numbers += own
    if not features:
        raise DataError(f"no box of camera {camera} can be used", hint="run a tracker first: boxes need tracker_id")
    images = [f"{camera}/{number}#{track}" for number, track in zip(numbers, tracks, strict=True)]
    found = FeatureSet.from_arrays(
        np.concatenate(features),
        track_id=tracks,
        image_id=images,
        camera_id=[camera] * len(tracks),
        frame=numbers,
        source=camera,
    )
    doubts = (f"{amount(len(bad), 'box')} of camera {camera} cannot be used, left out: {bad[0]}",) if bad else ()
    return replace(found, identity=inference.identity, weights=network.weights, warnings=(*network.warnings, *doubts))


def _crops(
    frames: Iterable[Frame],
    transform: Transform,
    *,
    camera: str,
    flip: bool,
    options: ExtractionOptions,
    bad: list[str],
) -> Iterator[CropPixels]:
    """What the network sees of each tracked box; those that cannot be used are added to ``bad`` in words."""
    for number, pixels, found in frames:
        ids: Sequence[int] = [] if found.tracker_id is None else found.tracker_id.tolist()
        image = Image.fromarray(np.ascontiguousarray(pixels[..., ::-1] if flip else pixels))
        for (left, top, right, bottom), track in zip(found.xyxy.tolist(), ids, strict=False):
            try:
                part = cut_part(image, (left, top, right - left, bottom - top), max_pixels=options.max_pixels)
            except BadImageError as error:
                bad.append(f"frame {number}, track {track}: {error}")
                continue
            yield transform.crop_uint8(part), track_name(camera, str(track)), int(number)
