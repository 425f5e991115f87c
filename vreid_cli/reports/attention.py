"""Where two images agree: the places that the similarity comes from, lit on the images as the network sees them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from vreid_cli.data.boxes import Crop
from vreid_cli.data.decoding import BadImageError
from vreid_cli.errors import DataError
from vreid_cli.models.attention import SpatialMaps, spatial_maps
from vreid_cli.models.weights import LoadedNetwork
from vreid_cli.ranking.pairs import PairDistances, number
from vreid_cli.reports.sheets.painting import decode
from vreid_cli.types.arrays import Float32Array

#: Pairs of images that are shown.
_MOST = 6
#: How dark a place is that adds nothing.
_DARK = 0.15
#: What an LR may differ by from the feature, in parts of its length: more than any precision makes of it.
_OTHER_WEIGHTS = 0.3


@dataclass(frozen=True, eq=False)
class LitPair:
    """Two images that decide, and the same with the places lit that they agree at.

    Attributes:
        caption: Which images they are, and what adds up.
        images: Query image, query image lit, gallery image lit, gallery image.
        parts: (H, W) of the query's and of the gallery's image: what each place adds.
    """

    caption: str
    images: tuple[Image.Image, ...]
    parts: tuple[NDArray[np.float64], NDArray[np.float64]]


def light_pairs(
    loaded: LoadedNetwork,
    pair: PairDistances,
    images: tuple[Sequence[Path | Crop], Sequence[Path | Crop]],
    *,
    features: tuple[Float32Array, Float32Array],
) -> list[LitPair]:
    """Light the nearest pairs of images that decide.

    Under a distance from cosines a place is as bright as what it adds to the cosine, whose parts sum up to it; where
    the LR is no mean over places, and under other distances, as the length of the last map there.

    Args:
        loaded: The network that made the features.
        pair: The distances.
        images: Of the query and of the gallery item, in the order of their features.
        features: (N_q, D) and (N_r, D).

    Raises:
        DataError: An image cannot be read, the network has no map before its pool, or it gives other features.
    """
    rows, columns = np.nonzero(pair.counts)
    nearest = np.argsort(pair.cells[rows, columns], kind="stable")[:_MOST]
    lit = []
    for row, column in zip(rows[nearest].tolist(), columns[nearest].tolist(), strict=True):
        chosen = [images[0][row : row + 1], images[1][column : column + 1]]
        if not all(chosen):
            raise DataError("the images of this pair are not known", hint="name their folders")
        crops = [loaded.transform.crop_uint8(_read(one[0])) for one in chosen]
        maps = spatial_maps(loaded.network, loaded.transform.normalise(torch.stack(crops)))
        if maps is None:
            raise DataError(f"{loaded.architecture} has no map before its pool", hint="leave out --attention")
        _check_weights(loaded, maps, (features[0][row], features[1][column]))
        by_cosine = maps.adds_up and pair.metric.distance == "MCD"
        parts = [maps.cosine_parts(i, maps.latent[1 - i]) if by_cosine else maps.lengths(i) for i in range(2)]
        plain = [Image.fromarray(crop.permute(1, 2, 0).numpy()) for crop in crops]
        shown = [_light(image, part) for image, part in zip(plain, parts, strict=True)]
        said = (
            f"query image {row + 1}, gallery image {column + 1}: {pair.shows} {number(float(pair.cells[row, column]))}"
        )
        said += (
            f", cosine {float(parts[0].sum()):.3f} = sum over the places" if by_cosine else ", length of the last map"
        )
        both = parts[0].double().numpy(), parts[1].double().numpy()
        lit.append(LitPair(said, (plain[0], shown[0], shown[1], plain[1]), both))
    return lit


def _read(image: Path | Crop) -> Image.Image:
    try:
        return decode(image)
    except BadImageError as error:
        raise DataError(f"{image}: {error}", hint="leave out --attention", file=str(image)) from None


def _check_weights(loaded: LoadedNetwork, maps: SpatialMaps, features: tuple[Float32Array, Float32Array]) -> None:
    for latent, feature in zip(maps.latent.numpy(), features, strict=True):
        if latent.shape != feature.shape or np.linalg.norm(latent - feature) > _OTHER_WEIGHTS * np.linalg.norm(feature):
            hint = "name the weights that made the features with --run-dir, or extract again"
            raise DataError(f"{loaded.architecture} with weights {loaded.weights} gives other features", hint=hint)


def _light(image: Image.Image, part: torch.Tensor) -> Image.Image:
    """The image, dark where a place adds nothing or less."""
    weights = part.clamp_min(0) / part.max().clamp_min(torch.finfo(torch.float32).tiny)
    size = (image.height, image.width)
    grown = torch.nn.functional.interpolate(weights[None, None].float(), size, mode="bilinear", align_corners=False)
    light = _DARK + (1 - _DARK) * grown[0, 0].clamp(0, 1).numpy()
    pixels = np.asarray(image, dtype=np.float32) * light[..., None]
    return Image.fromarray(pixels.round().astype(np.uint8))
