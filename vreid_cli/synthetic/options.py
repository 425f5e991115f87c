"""The size of the synthetic data set and of the training on it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from vreid_cli.types.options import Options, Positive, option

#: VeRi's names have four digits for a vehicle, and half of the numbers are for each split.
_Vehicles = Annotated[int, Field(ge=2, le=4999)]


class SyntheticOptions(Options):
    """How much is rendered."""

    train_vehicles: _Vehicles = option(64, "Vehicles to train on.")
    test_vehicles: _Vehicles = option(20, "Vehicles to rank; none of them is among the others.")
    cameras: Annotated[int, Field(ge=2, le=999)] = option(4, "Cameras, each with its own view, light and background.")
    # A longer passage would run into the vehicle's next one before the same camera.
    images_per_track: Annotated[int, Field(ge=1, le=100)] = option(3, "Images of a passage; some have one fewer.")


class SceneOptions(Options):
    """How much of a scene is rendered."""

    vehicles: Annotated[int, Field(ge=2, le=999)] = option(18, "Vehicles that drive from camera to camera.")


class DemoOptions(SyntheticOptions):
    """``[demo]``: the size of the synthetic set and of the training."""

    scene: bool = option(
        False, "From videos of several cameras, with what a tracker wrote, to one identity across all of them."
    )
    scene_vehicles: Annotated[int, Field(ge=2, le=999)] = option(18, "Vehicles that drive through the scene.")

    epochs: Positive = option(10, "How often training sees every image.")
