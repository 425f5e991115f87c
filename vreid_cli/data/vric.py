"""The layout ``vric``: VRIC, whose lists name image, vehicle and camera.

Known from public loaders, not checked against the release.
"""

from __future__ import annotations

from vreid_cli.data.listing import DataFolders, Listing, list_images, make_listing, require_folder
from vreid_cli.data.lists import NO_PASSAGES, camera_track, main_folder, read_table, report_missing, require_list
from vreid_cli.types.images import ImageRecord, Split

#: VRIC calls its queries probes.
_NAMES: dict[Split, str] = {"query": "probe", "gallery": "gallery", "train": "train"}
_SHAPE = (
    "expected VRIC: train_images/, probe_images/, gallery_images/, and vric_train.txt, vric_probe.txt, "
    "vric_gallery.txt with lines 'image vehicle camera'"
)


def read_vric(folders: DataFolders, split: Split) -> Listing:
    """List the images of a split.

    Raises:
        UsageError: No folder is named.
        DataError: A folder or list is missing, or is not what it should be.
    """
    data_dir = main_folder(folders, dataset="vric", shape=_SHAPE)
    images = require_folder(data_dir / f"{_NAMES[split]}_images", hint=_SHAPE)
    path = require_list(data_dir / f"vric_{_NAMES[split]}.txt", hint=_SHAPE)
    warnings: list[str] = [NO_PASSAGES]
    rows = read_table(path, columns="image vehicle camera", warnings=warnings)
    report_missing(list(rows), list_images(images), listed_in=path.name, folder=images.name, warnings=warnings)
    records = (
        ImageRecord(name, images / name, camera_track(vehicle, camera), vehicle, camera)
        for name, (vehicle, camera) in rows.items()
    )
    return make_listing(records, images, warnings)
