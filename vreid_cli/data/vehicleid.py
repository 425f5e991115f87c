"""The layout ``vehicleid``: PKU VehicleID, whose test lists name images and vehicles, and no cameras.

Known from public loaders, not checked against the release.
"""

from __future__ import annotations

from vreid_cli.data.listing import DataFolders, Listing, list_images, make_listing, require_folder
from vreid_cli.data.lists import choose_list, main_folder, read_table, report_missing, require_list, with_endings
from vreid_cli.errors import UsageError
from vreid_cli.types.images import ImageRecord, Split

_SHAPE = "expected VehicleID: image/<name>.jpg and train_test_split/test_list_<size>.txt with lines 'image vehicle'"


def read_vehicleid(folders: DataFolders, split: Split) -> Listing:
    """List all images of a test list as the gallery, or those of the training list; each is a track of its own.

    Raises:
        UsageError: The split ``query`` is asked for, which ranking draws from the gallery; or one of several
            test lists must be chosen.
        DataError: A folder or list is missing, or is not what it should be.
    """
    if split == "query":
        raise UsageError(
            "--dataset vehicleid has no query split: its queries are drawn from the gallery at rank time",
            hint="leave out --split, then vreid rank --task i2i",
        )
    data_dir = main_folder(folders, dataset="vehicleid", shape=_SHAPE)
    images = require_folder(data_dir / "image", hint=_SHAPE)
    lists = require_folder(data_dir / "train_test_split", hint=_SHAPE)
    warnings: list[str] = []
    if split == "train":
        path = require_list(lists / "train_list.txt", hint=_SHAPE)
    else:
        path = choose_list(lists, "test_list_{}.txt", subset=folders.subset, dataset="vehicleid", warnings=warnings)
    rows = with_endings(read_table(path, columns="image vehicle", warnings=warnings), path, warnings)
    report_missing(list(rows), list_images(images), listed_in=path.name, folder=images.name, warnings=warnings)
    records = (ImageRecord(name, images / name, name, vehicle) for name, (vehicle,) in rows.items())
    return make_listing(records, images, warnings)
