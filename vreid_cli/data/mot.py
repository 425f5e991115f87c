"""The layout ``mot``: videos or frames of several cameras, and what a tracker wrote about each."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vreid_cli.data.boxes import name_crop
from vreid_cli.data.listing import DataFolders, Listing, ListingBuilder, Thinning
from vreid_cli.data.scene import FRAMES, Recording, find_recordings
from vreid_cli.data.trackers import Size, read_mot_text
from vreid_cli.errors import DataError
from vreid_cli.runtime.progress import log
from vreid_cli.types.amounts import amount
from vreid_cli.types.arrays import BoolArray, Int64Array, shared_codes
from vreid_cli.types.images import Split
from vreid_cli.types.tracker import MATCH_IOU, TrackerBoxes, boxes_by_frame, iou


def read_mot(folders: DataFolders, split: Split) -> Listing:
    """List the boxes that are used, each as a crop of its frame; tracks are named ``<camera>_<id>``.

    Vehicles are known where the tracks are ground truth themselves, or where ``gt/gt.txt`` lies beside them: a track
    shows the vehicle that most of its boxes overlap.

    Raises:
        DataError: There are no cameras, files do not fit each other, or no box is left.

    Examples:
        >>> from PIL import Image
        >>> for folder in ("scene/c1/img1", "scene/c1/mtsc"):
        ...     Path(folder).mkdir(parents=True)
        >>> Image.new("RGB", (200, 100)).save("scene/c1/img1/000003.jpg")
        >>> _ = Path("scene/c1/mtsc/sort.txt").write_text("3,7,10,20,30,40,0.9,-1,-1,-1")
        >>> record = read_mot(DataFolders(Path("scene")), "gallery").records[0]
        >>> record.image_id, record.track_id, record.camera_id, record.frame
        ('c1/img1/000003.jpg#xywh=10,20,30,40', 'c1_7', 'c1', 3)
    """
    root = folders.root
    if split != "gallery":
        raise DataError(f"{root} has no {split} split: all tracks of all cameras are gallery", file=root)
    listing, left_out = ListingBuilder(), Counter[tuple[str, str]]()
    recordings = find_recordings(root, track_file=folders.track_file)
    for recording in recordings:
        _list_camera(recording, root, listing=listing, left_out=left_out, thinning=folders.thinning)
    for (noun, reason), count in left_out.items():
        listing.warnings.append(f"{amount(count, noun)} {reason}")
    if not len(listing):
        hint = "look at --min-size and --min-confidence"
        raise DataError(f"no box of {root} is left", hint=hint, file=root)
    return listing.finish(root, crops=True)


def _list_camera(
    recording: Recording, root: Path, *, listing: ListingBuilder, left_out: Counter[tuple[str, str]], thinning: Thinning
) -> None:
    boxes = recording.boxes()
    if not len(boxes):
        raise DataError(f"{recording.tracks} holds no track", file=recording.tracks)
    vehicles = vehicles_of(recording, boxes)
    boxes, clipped = _usable(recording, boxes, left_out, thinning=thinning)
    _note_video(recording, listing)
    name = recording.frames.relative_to(root).as_posix()
    frame_files = recording.frame_files if recording.video is None else None
    for row in thin(boxes, clipped, thinning):
        frame, track = int(boxes.frame[row]), str(boxes.track[row])
        x, y, width, height = clipped[row].tolist()
        box = (x, y, width, height)
        image = (
            name_crop(name, box, frame=frame) if frame_files is None else name_crop(f"{name}/{frame_files[frame]}", box)
        )
        listing.add(
            image,
            track_name(recording.camera, track),
            vehicle_id=vehicles.get(track),
            camera_id=recording.camera,
            frame=frame,
        )


def track_name(camera: str, track: str) -> str:
    """What a track is called among those of all cameras, whose ids may be the same.

    Examples:
        >>> track_name("c001", "17")
        'c001_17'
    """
    return f"{camera}_{track}"


def _note_video(recording: Recording, listing: ListingBuilder) -> None:
    video = recording.video
    if video is not None and video.rotation:
        listing.warnings.append(
            f"{recording.frames}: players turn it by {video.rotation} degrees, vreid does not; boxes that were found "
            "in turned frames do not fit"
        )
    if video is not None and video.variable:
        listing.warnings.append(
            f"{recording.frames}: its frame rate varies, so times that follow from frame numbers are not exact"
        )
    if video is not None and video.missing:
        missing = amount(video.missing, "frame is", "frames are")
        listing.warnings.append(
            f"{recording.frames}: {missing} missing in its middle, it is damaged or was recorded so; "
            "frames are numbered as they follow each other"
        )


def _usable(
    recording: Recording, boxes: TrackerBoxes, left_out: Counter[tuple[str, str]], *, thinning: Thinning
) -> tuple[TrackerBoxes, NDArray[np.float64]]:
    """The boxes that can be used, and (n, 4) what lies of them within the frame; counts the others by the reason."""
    clipped = clip(boxes.box, recording.size)
    small = clipped[:, 2:].min(axis=1) < max(thinning.min_size, np.finfo(float).tiny)
    empty, outside = ((sizes <= 0).any(axis=1) for sizes in (boxes.box[:, 2:], clipped[:, 2:]))
    reasons: dict[str, Any] = {
        "repeated in one frame, left out": _repeated(boxes),
        f"of a frame that is not there, left out (such as {_beyond(recording, boxes)})": ~_present(
            recording, boxes.frame
        ),
        "without a size, left out": empty,
        "outside the frame, left out": outside,
        f"smaller than --min-size {thinning.min_size:g}, left out": small,
        f"less sure than --min-confidence {thinning.min_confidence:g}, left out": (
            boxes.confidence < thinning.min_confidence
        ),
    }
    kept = np.ones(len(boxes), dtype=np.bool_)
    for reason, bad in reasons.items():
        if count := int((kept & bad).sum()):
            left_out["box", reason] += count
        kept &= ~bad
    if lost := len(set(boxes.track)) - len(set(boxes.track[kept])):
        left_out["track", "without a box that can be used, left out"] += lost
    return boxes.select(kept), clipped[kept]


def _present(recording: Recording, frames: Int64Array) -> BoolArray:
    if recording.video is None:
        present: BoolArray = np.isin(frames, np.array(list(recording.frame_files), dtype=np.int64))
        return present
    count = recording.video.frames
    return np.ones(len(frames), dtype=np.bool_) if count is None else frames <= count


def _beyond(recording: Recording, boxes: TrackerBoxes) -> str:
    """The first box whose frame is not there, in words."""
    missing = np.flatnonzero(~_present(recording, boxes.frame))
    if not len(missing):
        return ""
    frame = int(boxes.frame[missing[0]])
    video = recording.video
    where = f"{FRAMES}/ has none" if video is None else f"the video has {video.frames}"
    return f"frame {frame} of {recording.camera}: {where}"


def _repeated(boxes: TrackerBoxes) -> BoolArray:
    """Whether a track has an earlier box in the same frame."""
    codes, _ = shared_codes(boxes.track, boxes.track[:0])
    _, first = np.unique(np.stack([codes, boxes.frame]), axis=1, return_index=True)
    repeated = np.ones(len(boxes), dtype=np.bool_)
    repeated[first] = False
    return repeated


def clip(boxes: NDArray[np.float64], size: Size) -> NDArray[np.float64]:
    """(n, 4) the part of each box that lies in a frame; a width or height of 0 where none does.

    Examples:
        >>> clip(np.array([[-5.0, 10, 20, 20], [300, 10, 5, 5]]), (100, 50)).tolist()
        [[0.0, 10.0, 15.0, 20.0], [100.0, 10.0, 0.0, 5.0]]
    """
    low = np.clip(boxes[:, :2], 0, size)
    high = np.clip(boxes[:, :2] + boxes[:, 2:], 0, size)
    return np.hstack([low, np.maximum(high - low, 0)])


def thin(boxes: TrackerBoxes, clipped: NDArray[np.float64], thinning: Thinning) -> Int64Array:
    """(m,) int64 positions of the boxes that are used, track by track in the order of frames.

    Examples:
        >>> ids = np.array(["7"] * 5, dtype=object)
        >>> boxes = TrackerBoxes(np.arange(1, 6), ids, np.ones((5, 4)), np.ones(5))
        >>> thin(boxes, boxes.box, Thinning(per_track=3)).tolist()
        [0, 2, 4]
    """
    codes, _ = shared_codes(boxes.track, boxes.track[:0])
    order = np.lexsort((boxes.frame, codes))
    ends = np.flatnonzero(np.diff(codes[order])) + 1
    chosen = []
    for rows in np.split(order, ends) if len(order) else []:
        most = min(thinning.per_track, len(rows))
        if thinning.choose == "largest":
            area = clipped[rows, 2] * clipped[rows, 3]
            chosen.append(rows[np.sort(np.argsort(-area, kind="stable")[:most])])
        elif most == 1:
            chosen.append(rows[[len(rows) // 2]])
        else:
            chosen.append(rows[np.linspace(0, len(rows) - 1, most).round().astype(np.int64)])
    return np.concatenate(chosen) if chosen else np.empty(0, dtype=np.int64)


def vehicles_of(recording: Recording, boxes: TrackerBoxes) -> dict[str, str]:
    """The vehicle of each track of a camera that is known to show one."""
    if recording.tracks.parent.name == "gt":
        return {track: track for track in set(boxes.track)}
    if recording.truth is None:
        return {}
    found = label_by_truth(boxes, read_mot_text(recording.truth))
    log.info(
        "%s: %d of %s with a vehicle of %s",
        *(recording.camera, len(found), amount(len(set(boxes.track)), "track"), recording.truth),
    )
    return found


def label_by_truth(boxes: TrackerBoxes, truth: TrackerBoxes) -> dict[str, str]:
    """The ground-truth id that overlaps most boxes of each track, if it overlaps more than half of them.

    Of boxes of the ground truth that overlap one box by :data:`MATCH_IOU`, the one that overlaps most counts.

    Examples:
        >>> ids = np.array(["7"], dtype=object), np.array(["car"], dtype=object)
        >>> box = np.array([[0.0, 0, 10, 10]])
        >>> one, true = (TrackerBoxes(np.array([1]), name, box, np.ones(1)) for name in ids)
        >>> label_by_truth(one, true)
        {'7': 'car'}
    """
    hits: dict[str, Counter[str]] = {}
    for own, other in boxes_by_frame(boxes, truth):
        overlap = iou(boxes.box[own], truth.box[other])
        for row, best in zip(own, overlap.argmax(axis=1), strict=True):
            if overlap[row == own, best] >= MATCH_IOU:
                hits.setdefault(str(boxes.track[row]), Counter())[str(truth.track[other[best]])] += 1
    totals = Counter(map(str, boxes.track))
    best_of = {track: counts.most_common(1)[0] for track, counts in hits.items()}
    return {track: name for track, (name, count) in best_of.items() if 2 * count > totals[track]}
