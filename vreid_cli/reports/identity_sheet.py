"""A contact sheet of identities: the tracks of each, in the order in which cameras saw them."""

from __future__ import annotations

import fnmatch
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from vreid_cli.data.boxes import Crop
from vreid_cli.errors import UsageError
from vreid_cli.reports.identities import members, probability_text, summary
from vreid_cli.reports.options import ShowOptions
from vreid_cli.reports.sheets.layout import SheetItem, Verdict
from vreid_cli.reports.sheets.sheet import Sheet, render_sheet
from vreid_cli.types.arrays import Int64Array
from vreid_cli.types.identities import Identities


def choose_identities(found: Identities, names: Sequence[str], *, most: int) -> list[tuple[int, Int64Array]]:
    """Identities by number, or by the names of their tracks, in which ``*`` and ``?`` stand for anything.

    Without names those of most tracks come, each with the positions of its tracks in the order of time.

    Raises:
        UsageError: A name fits no identity.

    Examples:
        >>> import vreid_cli as vreid
        >>> cars = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
        >>> features = vreid.FeatureSet.from_arrays(cars, track_id=["a", "b", "c"])
        >>> found = vreid.associate(features, vreid.AssociationOptions(threshold=0.2))
        >>> [(number, rows.tolist()) for number, rows in choose_identities(found, ["c", "1"], most=8)]
        [(2, [2]), (1, [0, 1])]
    """
    known = dict(members(found))
    if not names:
        ranked = sorted(known, key=lambda number: (-len(known[number]), number))
        return [(number, known[number]) for number in ranked[:most]]
    chosen: dict[int, Int64Array] = {}
    for name in names:
        tracks = [k for k, track in enumerate(found.tracks.ids) if fnmatch.fnmatchcase(track, name)]
        numbers = [int(found.identity[k]) for k in tracks]
        if name.isdecimal() and int(name) in known:
            numbers.append(int(name))
        if not numbers:
            hint = f"they are 1 to {max(known, default=0)}, or name a track, such as {found.tracks.ids[0]}"
            raise UsageError(f"{found.source} has no identity or track '{name}'", hint=hint)
        chosen |= {number: known[number] for number in numbers}
    return list(chosen.items())


def show_identities(
    found: Identities,
    chosen: Sequence[tuple[int, Int64Array]],
    *,
    images: Mapping[str, Sequence[Path | Crop]],
    options: ShowOptions | None = None,
) -> Sheet:
    """Draw some identities, one below the other, each with its tracks in the order of time.

    Args:
        found: All identities.
        chosen: Numbers and the positions of their tracks.
        images: The images of each track by its name.
        options: How many images of a track are shown.

    Raises:
        UsageError: The sheet would be too large to open.

    Examples:
        >>> import vreid_cli as vreid
        >>> features = vreid.FeatureSet.from_arrays(np.eye(2), track_id=["a", "b"])
        >>> found = vreid.associate(features, vreid.AssociationOptions(threshold=0.2))
        >>> sheet = show_identities(found, choose_identities(found, [], most=1), images={"a": [Path("gone.png")]})
        >>> sheet.warnings
        ('gone.png: the file is not there',)
    """
    options = options or ShowOptions()
    rows = []
    for _, tracks in chosen:
        vehicles = Counter(v for v in found.tracks.vehicles[tracks] if v is not None)
        own = vehicles.most_common(1)[0][0] if vehicles else None
        rows.append([_item(found, k, images=images, own=own, place=n) for n, k in enumerate(tracks.tolist(), start=1)])
    return render_sheet(
        rows,
        title="Identities - tracks of one vehicle",
        subtitle=f"{summary(found)}\nEach row is one vehicle; its tracks stand in the order of time.",
        max_images=options.max_images,
        labels=[_label(found, number, tracks) for number, tracks in chosen],
        signs=("#2: the second track of this vehicle",),
        alone="seen once",
    )


def _label(found: Identities, number: int, tracks: Int64Array) -> str:
    probability = probability_text(found, int(tracks[0]))
    return f"vehicle {number}" + (f" · p {probability}" if probability else "")


def _item(
    found: Identities, k: int, *, images: Mapping[str, Sequence[Path | Crop]], own: str | None, place: int
) -> SheetItem:
    name, vehicle = str(found.tracks.ids[k]), found.tracks.vehicles[k]
    verdict = Verdict.UNLABELLED
    if vehicle is not None and own is not None:
        verdict = Verdict.MATCH if vehicle == own else Verdict.DIFFERENT
    facts = [f"camera {found.tracks.cameras[k]}" if found.tracks.cameras[k] else "", _when(found, k)]
    facts.append(f"vehicle {vehicle}" if vehicle else "")
    sure = found.confidence[k]
    facts.append("" if math.isnan(sure) else f"confidence {sure:.2f}")
    caption = " · ".join(filter(None, facts))
    return SheetItem(name=name, images=images.get(name, ()), caption=caption, verdict=verdict, rank=place)


def _when(found: Identities, k: int) -> str:
    times = found.times
    if not np.isnan(times.start[k]):
        return f"{times.start[k]:.1f}-{times.end[k]:.1f} s"
    return "" if times.first[k] < 0 else f"frames {times.first[k]}-{times.last[k]}"
