"""How a network is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from vreid_cli.runtime.options import Precision
from vreid_cli.types.options import Auto, NotNegative, Options, Positive, Share

RecipeName = Literal["paper", "strong"]


class TrainingOptions(Options):
    """``[train]``: the recipe, number by number, and how it is carried out.

    ``--recipe NAME`` reads all numbers of the preset ``recipe-NAME``, which says what each is and where it
    comes from; the values here are those that change nothing.

    Attributes:
        recipe: The preset that the numbers come from.
        epochs: Passes over the images.
        batch_size: Images a step, over all processes.
        accumulate: Forward passes that a step's images are divided into.
        per_vehicle: Images of each vehicle in a batch (K of P x K); 0 for images in random order.
        optimizer: ``sgd`` with Nesterov's momentum, or ``adamw``.
        learning_rate: Highest learning rate.
        momentum: Of ``sgd``.
        weight_decay: On kernels and matrices; biases and normalisations are free.
        schedule: ``constant``, or ``cosine`` down to nothing at the end.
        warm_up: Share of all steps in which the learning rate rises from nothing.
        clip_norm: Longest gradient; 0 for any.
        label_smoothing: Share of the target that is spread over all classes.
        triplet: Weight of the batch-hard triplet loss; 0 for none.
        margin: Of the triplet loss, in units of the distance.
        neck: Whether a batch normalisation stands between trunk and classifier (BNNeck).
        resize: Pixels of the short side; ``auto`` for the architecture's.
        crop: Side of the network's input; ``auto`` for the architecture's.
        zoom: Smallest part of an image's area that is cut out and enlarged to the crop; 1 for crops of the
            crop's own size.
        flip: Whether half of the images are mirrored.
        jitter: Greatest relative change of brightness, contrast and saturation.
        tint: Greatest relative change of each colour channel.
        erase: Chance that a rectangle is painted over.
        precision: Arithmetic of the forward pass; weights and losses stay float32.
        channels_last: Whether images and kernels lie channels last.
        ema: Decay of the moving average of the weights that is kept in their place; 0 for none.
        held_out: Training vehicles that are left out to validate on: a share below 1, or a number.
        validate_every: Epochs from one validation to the next.
        tensorboard: Whether to write TensorBoard's files too.
        resume: The run whose training is to go on.
        restart: Whether to throw away an earlier training in the same folder.
    """

    recipe: RecipeName = "paper"
    epochs: Positive = 10
    batch_size: Annotated[int, Field(ge=2)] = 32
    accumulate: Positive = 1
    per_vehicle: Annotated[int, Field(ge=0)] = 0
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1e-3
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: NotNegative = 0.0
    schedule: Literal["constant", "cosine"] = "constant"
    warm_up: Annotated[float, Field(ge=0, lt=1)] = 0.0
    clip_norm: NotNegative = 0.0
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    triplet: NotNegative = 0.0
    margin: NotNegative = 0.3
    neck: bool = False
    resize: Auto | Positive = "auto"
    crop: Auto | Positive = "auto"
    zoom: Annotated[float, Field(gt=0, le=1)] = 1.0
    flip: bool = False
    jitter: Annotated[float, Field(ge=0, lt=1)] = 0.0
    tint: Annotated[float, Field(ge=0, lt=1)] = 0.0
    erase: Share = 0.0
    precision: Precision = "fp32"
    channels_last: bool = True
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    held_out: NotNegative = 0.0
    validate_every: Positive = 1
    tensorboard: bool = False
    resume: Path | None = None
    restart: bool = False
