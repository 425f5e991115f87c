"""A plain table: the name of a layout, and the function that lists its images."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from vreid_cli.data.aicity import read_aicity
from vreid_cli.data.listing import DataFolders, Listing
from vreid_cli.data.manifest import read_manifest
from vreid_cli.data.tracks import read_tracks
from vreid_cli.data.vehicleid import read_vehicleid
from vreid_cli.data.veri import read_veri
from vreid_cli.data.veri_wild import read_veri_wild
from vreid_cli.data.vric import read_vric
from vreid_cli.types.images import Split

Reader = Callable[[DataFolders, Split], Listing]

READERS: Mapping[str, Reader] = {
    "veri": read_veri,
    "vehicleid": read_vehicleid,
    "veri-wild": read_veri_wild,
    "vric": read_vric,
    "aicity": read_aicity,
    "tracks": read_tracks,
    "csv": read_manifest,
}

#: Layouts that come with test lists of several sizes.
WITH_SUBSETS = frozenset({"vehicleid", "veri-wild"})
