"""Validation while training: how well vehicles that are not learned are found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from vreid_cli.errors import DataError
from vreid_cli.evaluation.evaluate import evaluate
from vreid_cli.extraction.options import ExtractionOptions
from vreid_cli.extraction.resolve import resolve_inference
from vreid_cli.models.network import Network
from vreid_cli.models.transforms import Transform
from vreid_cli.models.weights import LoadedNetwork
from vreid_cli.ranking.options import RankingOptions
from vreid_cli.ranking.rank import rank
from vreid_cli.runtime.options import RuntimeOptions
from vreid_cli.training.images import Images, ReadImages
from vreid_cli.training.state import Scores
from vreid_cli.types.features import FeatureSet


class Validation:
    """Image to image, by the cosine, among the vehicles that were held out: each image looks for the others."""

    def __init__(self, read: ReadImages, transform: Transform, settings: RuntimeOptions, device: torch.device) -> None:
        self._read = read
        self._transform = transform
        self._settings = settings
        self._device = device

    def __call__(self, network: Network) -> Scores:
        """Scores of a network in eval mode, which stays as it is."""
        features = self._features(network)
        records = self._read.records
        images = FeatureSet.from_arrays(
            features,
            image_id=[record.image_id for record in records],
            track_id=[record.track_id for record in records],
            vehicle_id=[record.vehicle_id for record in records],
            camera_id=[record.camera_id for record in records],
            source="the vehicles that were held out",
        )
        images = replace(images, image_root="held out")  # an image must not find itself
        options = RankingOptions(task="i2i", metric=("MCD",))
        runtime = self._settings.model_copy(update={"device": str(self._device)})
        scores = evaluate(rank(images, images, options, runtime=runtime)["MCD"])
        if scores.mean_ap is None:
            raise DataError("what is left of the vehicles that were held out cannot be found: too few good images")
        return Scores(scores.mean_ap, float(scores.cmc[1] or 0.0))

    def _features(self, network: Network) -> NDArray[np.float32]:
        loaded = LoadedNetwork(network, self._transform, weights="", digest="")
        options = ExtractionOptions(backend="torch")
        inference = resolve_inference(loaded, options, device=self._device, images=len(self._read.records))
        images, size = self._read.images, inference.batch_size
        batches = [
            inference.compute(_centre(images, range(start, min(start + size, len(images))), self._transform))
            for start in range(0, len(images), size)
        ]
        return torch.cat(batches).numpy()


def _centre(images: Images, positions: range, transform: Transform) -> torch.Tensor:
    """The crops that the network sees when it is used: (B, 3, crop, crop) uint8."""
    margin = transform.resize - transform.crop
    start = round(margin / 2)  # as torchvision's centre crop rounds
    end = start + transform.crop
    return torch.stack([images[position][:, start:end, start:end] for position in positions])
