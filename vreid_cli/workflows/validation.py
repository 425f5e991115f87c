"""Validation while training: how well vehicles that are not learned are found."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.transforms.functional import center_crop

from vreid_cli.errors import DataError
from vreid_cli.evaluation.evaluate import evaluate
from vreid_cli.extraction.options import ExtractionOptions
from vreid_cli.extraction.resolve import resolve_inference
from vreid_cli.models.weights import LoadedNetwork
from vreid_cli.ranking.options import RankingOptions
from vreid_cli.ranking.rank import rank
from vreid_cli.runtime.devices import choose_device
from vreid_cli.runtime.options import RuntimeOptions
from vreid_cli.training.images import Images, ReadImages
from vreid_cli.training.state import Scores
from vreid_cli.types.features import FeatureSet


@dataclass(frozen=True)
class Validation:
    """Image to image, by MCD: each image of the held-out vehicles looks for the others.

    Attributes:
        runtime: Device, memory and matrix products.
    """

    runtime: RuntimeOptions = field(default_factory=RuntimeOptions)

    def __call__(self, network: LoadedNetwork, held_out: ReadImages) -> Scores:
        """Scores of a network, which is not changed.

        Raises:
            DataError: Too few images are left.
        """
        records = held_out.records
        images = FeatureSet.from_arrays(
            self._features(network, held_out.images),
            image_id=[record.image_id for record in records],
            track_id=[record.track_id for record in records],
            vehicle_id=[record.vehicle_id for record in records],
            camera_id=[record.camera_id for record in records],
            source="the vehicles that were held out",
        )
        images = replace(images, image_root="held out")  # an image must not find itself
        options = RankingOptions(task="i2i", metric=("MCD",))
        scores = evaluate(rank(images, images, options, runtime=self.runtime)["MCD"])
        if scores.mean_ap is None:
            raise DataError("the held-out vehicles cannot be found: too few of their images are good")
        return Scores(scores.mean_ap, float(scores.cmc[1] or 0.0))

    def _features(self, network: LoadedNetwork, images: Images) -> NDArray[np.float32]:
        device, options = choose_device(self.runtime.device), ExtractionOptions(backend="torch")
        inference = resolve_inference(network, options, device=device, images=len(images))
        features, size, crop = [], inference.batch_size, list(network.transform.size)
        for start in range(0, len(images), size):
            pixels = [center_crop(images[k], crop) for k in range(start, min(start + size, len(images)))]
            features.append(inference.compute(torch.stack(pixels)))
        return torch.cat(features).numpy()
