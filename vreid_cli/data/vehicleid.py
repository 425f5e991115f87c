"""The layout ``vehicleid``: PKU VehicleID, whose test lists name images and vehicles, and no cameras.

Known from public loaders, not checked against the release.
"""

from __future__ import annotations

from vreid_cli.data.listing import DataFolders, Listing, ListingBuilder, require_folder
from vreid_cli.data.lists import choose_list, read_table
from vreid_cli.types.images import Split


def read_vehicleid(folders: DataFolders, split: Split) -> Listing:
    """List all images of a test list as the gallery, or those of the training list; each is a track of its own.

    Raises:
        UsageError: No folder is named, or one of several test lists must be chosen.
        DataError: A folder or list is missing, or is not what it should be.
    """
    root = require_folder(folders.root)
    images = require_folder(root / "image")
    lists = require_folder(root / "train_test_split")
    listing = ListingBuilder()
    if split == "train":
        path = lists / "train_list.txt"
    else:
        path = choose_list(lists, "test_list_{}.txt", subset=folders.subset, listing=listing)
    for name, (vehicle,) in read_table(path, images, columns="image vehicle", listing=listing).items():
        listing.add(name, name, vehicle_id=vehicle)
    return listing.finish(images)
