"""How a network is trained."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from vreid_cli.runtime.options import Precision
from vreid_cli.types.options import COMPUTING, Auto, NotNegative, Options, Positive, Share, option

RECIPE = "Recipe"
_BY_RECIPE = "the recipe's"
_BelowOne = Annotated[float, Field(ge=0, lt=1)]


class TrainingOptions(Options):
    """``[train]``: every number of a training; the defaults are those that change nothing.

    Examples:
        >>> TrainingOptions(epochs=3, crop=96).batch_size
        32
    """

    epochs: Positive = option(10, "Passes over the images.", panel=RECIPE, shown=_BY_RECIPE)
    batch_size: Annotated[int, Field(ge=2)] = option(
        32, "Images a step, over all GPUs.", panel=RECIPE, shown=_BY_RECIPE
    )
    accumulate: Positive = option(1, "Forward passes that a step's images are divided into.", panel=RECIPE)
    per_vehicle: Annotated[int, Field(ge=0)] = option(
        0, "Images of each vehicle in a batch (K of P x K); 0: images in random order.", panel=RECIPE
    )
    optimizer: Literal["sgd", "adamw"] = option("sgd", "SGD with Nesterov's momentum, or AdamW.", panel=RECIPE)
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = option(
        1e-3, "Highest learning rate.", metavar="X", panel=RECIPE, shown=_BY_RECIPE
    )
    momentum: _BelowOne = option(0.9, "Momentum of sgd.", panel=RECIPE)
    weight_decay: NotNegative = option(
        0.0, "Weight decay of kernels and matrices; biases and normalisations have none.", panel=RECIPE
    )
    schedule: Literal["constant", "cosine"] = option(
        "constant", "The learning rate stays, or falls to 0 along a cosine.", panel=RECIPE
    )
    warm_up: _BelowOne = option(0.0, "Share of all steps in which the learning rate rises from 0.", panel=RECIPE)
    clip_norm: NotNegative = option(0.0, "Longest gradient; 0: any.", panel=RECIPE)
    label_smoothing: _BelowOne = option(0.0, "Share of the target that is spread over all classes.", panel=RECIPE)
    triplet: NotNegative = option(0.0, "Weight of the batch-hard triplet loss; 0: none.", panel=RECIPE)
    margin: NotNegative = option(0.3, "Margin of the triplet loss, in units of the distance.", panel=RECIPE)
    neck: bool = option(False, "Put a batch normalisation between trunk and classifier (BNNeck).", panel=RECIPE)
    resize: Auto | Literal["squash"] | Positive = option(
        "auto",
        "Pixels of the short side; squash: the whole image is resized to the crop.",
        panel=RECIPE,
        shown="the network's own, 256 or 342",
    )
    crop: Auto | Positive = option(
        "auto", "Side of the network's input in pixels.", panel=RECIPE, shown="the network's own, 224 or 299"
    )
    zoom: Annotated[float, Field(gt=0, le=1)] = option(
        1.0,
        "Smallest part of an image's area that is cut out and enlarged to the crop; 1: crops of the crop's own size.",
        panel=RECIPE,
    )
    flip: bool = option(False, "Mirror half of the images.", panel=RECIPE)
    jitter: _BelowOne = option(0.0, "Greatest relative change of brightness, contrast and saturation.", panel=RECIPE)
    tint: _BelowOne = option(0.0, "Greatest relative change of each colour channel.", panel=RECIPE)
    erase: Share = option(0.0, "Chance that a rectangle is painted over.", panel=RECIPE)
    precision: Precision = option(
        "fp32", "Arithmetic of the forward pass; weights and losses stay fp32.", panel=COMPUTING
    )
    channels_last: bool = option(True, "Keep images and kernels channels last.", panel=COMPUTING)
    ema: _BelowOne = option(
        0.0, "Decay of the moving average of the weights that is kept in their place; 0: none.", panel=RECIPE
    )
    held_out: NotNegative = option(
        0.0,
        "Training vehicles to leave out and validate on: a share, or their number.",
        metavar="SHARE|N",
        panel=RECIPE,
        shown=_BY_RECIPE,
    )
    validate_every: Positive = option(1, "Epochs from one validation to the next.", panel=RECIPE)
