"""The size of the synthetic data set and of the training on it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from vreid_cli.types.options import Options, Positive, option


class DemoOptions(Options):
    """``[demo]``: the size of the synthetic set and of the training."""

    train_vehicles: Annotated[int, Field(ge=2)] = option(64, "Vehicles to train on.")
    test_vehicles: Annotated[int, Field(ge=2)] = option(20, "Vehicles to rank.")
    cameras: Annotated[int, Field(ge=2, le=20)] = option(4, "Cameras that see each vehicle.")
    images_per_track: Annotated[int, Field(ge=1, le=10)] = option(3, "Images of a vehicle by a camera.")
    epochs: Positive = option(10, "How often training sees every image.")
