"""A plain table: the name of a layout, and the function that lists its pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from vreid_cli.data.listing import DataFolders, Listing
from vreid_cli.data.tracks import read_tracks
from vreid_cli.data.veri import read_veri
from vreid_cli.types import Split

Reader = Callable[[DataFolders, Split], Listing]

READERS: Mapping[str, Reader] = {"veri": read_veri, "tracks": read_tracks}
