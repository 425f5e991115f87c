"""The table of data-set layouts: all that the rest of the package knows of them.

To add a layout, write its reader (``DataFolders`` and a split in, a ``Listing`` out) and add an entry here:
``--dataset``, its help and its checks, the splits that are extracted and the way queries and gallery come about
derive from it.
Readers are named and not imported, so that the table can be read without the libraries that they need.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vreid_cli.errors import DataError, UsageError, did_you_mean
from vreid_cli.runtime.objects import as_path
from vreid_cli.types.lazy import load

if TYPE_CHECKING:
    from pathlib import Path

    from vreid_cli.data.listing import DataFolders, Listing
    from vreid_cli.data.scene import Recording
    from vreid_cli.types.features import QueryProtocol
    from vreid_cli.types.images import Split
    from vreid_cli.types.truth import GroundTruth


@dataclass(frozen=True)
class Layout:
    """How a data set lies on disk, and how its queries and gallery come about.

    Attributes:
        name: What ``--dataset`` calls it.
        reader: ``"module:function"`` that lists the images of a split: ``(DataFolders, Split) -> Listing``.
        shape: What its folder holds, to follow "expected".
        note: For help, what its name leaves open.
        protocol: How queries and gallery come about, see :data:`vreid_cli.types.features.QueryProtocol`.
        subsets: The usual sizes of its test lists, where it has several; ``--subset`` chooses one.
        default_dir: Folder that is taken where none is named.
        own_folders: Whether ``--query-dir`` and ``--gallery-dir`` may name the folders of the splits.
        truth: ``"module:function"`` that reads ground truth beside the images: ``(Path) -> GroundTruth | None``.
        recordings: ``"module:function"`` that finds what trackers wrote about each camera, where it is made of that.
        weights: Name of the weights that are taken where neither weights nor an architecture are named.
    """

    name: str
    reader: str
    shape: str
    note: str = ""
    protocol: QueryProtocol = "separate"
    subsets: tuple[int, ...] = ()
    default_dir: str | None = None
    own_folders: bool = False
    truth: str | None = None
    recordings: str | None = None
    weights: str = "veri"

    @property
    def title(self) -> str:
        """Its name for help, with the note."""
        return f"{self.name} ({self.note})" if self.note else self.name

    @property
    def splits(self) -> tuple[Split, ...]:
        """The splits that are extracted by default.

        Examples:
            >>> LAYOUTS["veri"].splits, LAYOUTS["vehicleid"].splits
            (('query', 'gallery'), ('gallery',))
        """
        return ("gallery",) if self.protocol in ("random-gallery", "every-track") else ("query", "gallery")

    @property
    def rank_command(self) -> str:
        """The command that ranks it: without queries of its own there are single images and no tracks."""
        return "vreid rank --task i2i" if self.protocol == "random-gallery" else "vreid rank"

    def read(self, folders: DataFolders, split: Split) -> Listing:
        """List the images of a split.

        Args:
            folders: Where the data set lies.
            split: ``query``, ``gallery`` or ``train``.

        Raises:
            UsageError: No folder is named, folders are named that the layout does not have, or it has no such split.
            DataError: A folder or list is missing, or is not what it should be.

        Examples:
            >>> from pathlib import Path
            >>> from vreid_cli.data.listing import DataFolders
            >>> folder = Path("VRIC/gallery_images")
            >>> folder.mkdir(parents=True)
            >>> (folder / "a.jpg").touch()
            >>> _ = Path("VRIC/vric_gallery.txt").write_text("a.jpg 12 3")
            >>> LAYOUTS["vric"].read(DataFolders(Path("VRIC")), "gallery").records[0].vehicle_id
            '12'
        """
        for side in ("query", "gallery"):
            if not self.own_folders and getattr(folders, f"{side}_dir") is not None:
                raise UsageError(
                    f"--{side}-dir: the layout {self.name} has folders of its own",
                    hint="give --data-dir; for folders of your own add --dataset tracks",
                )
        if split == "query" and split not in self.splits:
            which = "each trial of vreid rank chooses queries from the gallery"
            if self.protocol == "every-track":
                which = "each track of the gallery is a query"
            raise UsageError(
                f"--dataset {self.name} has no query split: {which}",
                hint=f"leave out --split, then {self.rank_command}",
            )
        try:
            listing: Listing = load(self.reader)(folders, split)
        except (DataError, UsageError) as error:
            # Readers say what is wrong; what would be right is the same for all that is missing.
            own = "" if self.own_folders else "; for folders of your own add --dataset tracks"
            hint = error.hint or f"check --data-dir: expected {self.shape}{own}"
            raise type(error)(error.message, hint=hint, file=error.file) from None
        return replace(listing, dataset=self.name, protocol=self.protocol)

    def read_truth(self, data_dir: Path) -> GroundTruth | None:
        """The ground truth that lies beside the images; None where there is none.

        Raises:
            DataError: Its files do not fit each other.
        """
        if self.truth is None:
            return None
        truth: GroundTruth | None = load(self.truth)(data_dir)
        return truth

    def find_recordings(self, folders: DataFolders) -> list[Recording]:
        """What trackers wrote about each camera; none where the layout is not made of that.

        Raises:
            DataError: Files do not fit each other.
        """
        if self.recordings is None:
            return []
        found: list[Recording] = load(self.recordings)(folders.root, track_file=folders.track_file)
        return found


LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (
        Layout(
            "veri",
            "vreid_cli.data.veri:read_veri",
            "VeRi-776 as released: image_query/, image_test/ and image_train/ with names like 0002_c002_00030600_0.jpg",
            protocol="gallery-tracks",
            default_dir="VeRi",
            truth="vreid_cli.data.veri_truth:read_truth",
        ),
        Layout(
            "vehicleid",
            "vreid_cli.data.vehicleid:read_vehicleid",
            "VehicleID: image/<name>.jpg and train_test_split/test_list_<size>.txt with lines 'image vehicle'",
            protocol="random-gallery",
            subsets=(800, 1600, 2400),
        ),
        Layout(
            "veri-wild",
            "vreid_cli.data.veri_wild:read_veri_wild",
            "VERI-Wild: images/<vehicle>/<image>.jpg and train_test_split/ with test_<size>.txt, test_<size>_query.txt "
            "(lines 'vehicle/image') and vehicle_info.txt",
            subsets=(3000, 5000, 10000),
        ),
        Layout(
            "vric",
            "vreid_cli.data.vric:read_vric",
            "VRIC: train_images/, probe_images/, gallery_images/, and vric_train.txt, vric_probe.txt, vric_gallery.txt "
            "with lines 'image vehicle camera'",
        ),
        Layout(
            "aicity",
            "vreid_cli.data.aicity:read_aicity",
            "track 2 of the AI City Challenge: image_query/, image_test/, image_train/ with names like 000001.jpg, "
            "test_track.txt, train_track.txt and train_label.xml",
        ),
        Layout(
            "tracks",
            "vreid_cli.data.tracks:read_tracks",
            "a folder per track, each with its images: query/<track>/<image>.jpg, gallery/<track>/<image>.jpg",
            note="a folder per track",
            own_folders=True,
            weights="small",
        ),
        Layout(
            "csv",
            "vreid_cli.data.manifest:read_manifest",
            "a CSV file, or a folder that holds manifest.csv, with a header: the column path and, where they are "
            "known, split, track, vehicle, camera, frame, x, y, w, h",
            note="a table of images, or of boxes in frames",
            weights="small",
        ),
        Layout(
            "mot",
            "vreid_cli.data.mot:read_mot",
            "a folder per camera, with a video or frames in img1/, and a tracker's file as mtsc/tracks.txt with lines "
            "'frame, id, x, y, w, h, confidence', an .ottrk, or Ultralytics' labels/",
            note="videos and a tracker's files",
            protocol="every-track",
            recordings="vreid_cli.data.scene:find_recordings",
            weights="small",
        ),
    )
}


def read_images(
    data_dir: str | Path,
    split: Split = "gallery",
    *,
    dataset: str = "veri",
    subset: int | None = None,
    label_pattern: str | None = None,
) -> Listing:
    """List the images of a data set with their labels: what :func:`vreid_cli.extract` takes.

    Args:
        data_dir: The folder of the data set.
        split: ``query``, ``gallery`` or ``train``.
        dataset: Its layout, as ``--dataset`` names it.
        subset: Which of the test lists to take, by its size, where a layout has several.
        label_pattern: Regular expression for labels in names; None for VeRi's naming.

    Raises:
        UsageError: There is no such layout, or it has no such split.
        DataError: A folder or list is missing, or is not what it should be.

    Examples:
        >>> from pathlib import Path
        >>> Path("tracks/gallery/0002_c001").mkdir(parents=True)
        >>> Path("tracks/gallery/0002_c001/1.jpg").touch()
        >>> listing = read_images("tracks", dataset="tracks")
        >>> listing.records[0].track_id, listing.protocol
        ('0002_c001', 'separate')
    """
    from vreid_cli.data.listing import DataFolders
    from vreid_cli.types.images import SPLITS

    if dataset not in LAYOUTS:
        raise UsageError(f"there is no layout '{dataset}'", hint=did_you_mean(dataset, LAYOUTS))
    if split not in SPLITS:
        raise UsageError(f"there is no split '{split}'", hint=did_you_mean(str(split), SPLITS))
    folders = DataFolders(as_path(data_dir), label_pattern=label_pattern, subset=subset)
    return LAYOUTS[dataset].read(folders, split)
