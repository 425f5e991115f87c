"""The size of the synthetic data set and of the training on it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from vreid_cli.types.options import Options, Positive


class DemoOptions(Options):
    """``[demo]``: the size of the drawn set and of the training."""

    train_vehicles: Annotated[int, Field(ge=2)] = 64
    test_vehicles: Annotated[int, Field(ge=2)] = 20
    cameras: Annotated[int, Field(ge=2, le=20)] = 4
    images_per_track: Annotated[int, Field(ge=1, le=10)] = 3
    epochs: Positive = 10
