"""The layout ``vric``: VRIC, whose lists name image, vehicle and camera.

Known from public loaders, not checked against the release.
"""

from __future__ import annotations

from vreid_cli.data.listing import DataFolders, Listing, ListingBuilder, require_folder
from vreid_cli.data.lists import NO_PASSAGES, camera_track, read_table
from vreid_cli.types.images import Split

#: VRIC calls its queries probes.
_NAMES: dict[Split, str] = {"query": "probe", "gallery": "gallery", "train": "train"}


def read_vric(folders: DataFolders, split: Split) -> Listing:
    """List the images of a split.

    Raises:
        UsageError: No folder is named.
        DataError: A folder or list is missing, or is not what it should be.
    """
    root = require_folder(folders.root)
    images = require_folder(root / f"{_NAMES[split]}_images")
    listing = ListingBuilder()
    listing.warnings.append(NO_PASSAGES)
    rows = read_table(root / f"vric_{_NAMES[split]}.txt", images, columns="image vehicle camera", listing=listing)
    for name, (vehicle, camera) in rows.items():
        listing.add(name, camera_track(vehicle, camera), vehicle_id=vehicle, camera_id=camera)
    return listing.finish(images)
