"""Features as ``.npz``: arrays ``features, image_id, track_id, vehicle_id, camera_id``, without pickle."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from vreid_cli.errors import DataError
from vreid_cli.runtime.files import atomic_path, local_file
from vreid_cli.types.amounts import amount
from vreid_cli.types.features import COLUMNS, FeatureSet, number_images
from vreid_cli.types.labels import LabelPattern

#: What zipfile, zlib and NumPy raise over damaged, encrypted or foreign archives.
_DAMAGE = (OSError, ValueError, KeyError, EOFError, TypeError, RuntimeError, zipfile.BadZipFile, zlib.error)

#: Features are hardly packed at all; an archive may unpack to this many times its size, and some.
_MOST_RATIO, _MOST_UNPACKED = 100, 256 << 20


def read_features_npz(path: Path, label_pattern: str | None = None) -> FeatureSet:
    """Features (N, D) of any model, with the labels that the file holds; an empty text is an absent label.

    Only ``features`` must be there. Vehicles and cameras that are left out are read from the names of the
    tracks, else of the images.

    Raises:
        DataError: The file is missing, damaged, needs pickle, or its arrays do not fit each other.
    """
    arrays = _load(path)
    if "features" not in arrays:
        raise DataError(f"{path} has no array 'features'; it has {', '.join(arrays) or 'none'}", file=path)
    foreign = [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]
    if foreign:
        raise DataError(f"{path}: '{foreign[0]}' is no array of NumPy", file=path)
    features = arrays["features"]
    if features.ndim != 2 or not np.issubdtype(features.dtype, np.number) or np.iscomplexobj(features):
        raise DataError(
            f"{path}: 'features' is {features.dtype} of shape {features.shape}, not (N, D) numbers", file=path
        )
    # Beyond float32's range counts as infinite: that is how it would be computed with.
    with np.errstate(over="ignore"):
        features = features.astype(np.float32, copy=False)
    finite = np.isfinite(features).all(axis=1)
    if not finite.all():
        raise DataError(f"{path}: row {int(np.argmin(finite))} of 'features' is not finite", file=path)
    given = [name for name in COLUMNS if name in arrays]
    columns: dict[str, Any] = {name: _column(arrays[name], name, path=path, rows=len(features)) for name in given}
    pattern = LabelPattern.compile(label_pattern)
    if None in columns.get("image_id", ()):
        raise DataError(f"{path}: an entry of 'image_id' is empty", hint="name every image, or leave it out", file=path)
    tracks = columns.get("track_id") or [None] * len(features)
    images = columns.get("image_id") or number_images(tracks)
    named = [image if track is None else track for track, image in zip(tracks, images, strict=True)]
    for name in {"vehicle_id", "camera_id"} - columns.keys():
        said = {text: getattr(pattern.read(text), name) for text in dict.fromkeys(named)}
        columns[name] = [said[text] for text in named]
    return FeatureSet.from_arrays(
        features,
        track_id=tracks,
        image_id=images,
        vehicle_id=columns["vehicle_id"],
        camera_id=columns["camera_id"],
        source=str(path),
    )


def _load(path: Path) -> dict[str, Any]:
    try:
        with local_file(path) as local:
            _refuse_bomb(local)
            with np.load(local, allow_pickle=False) as file:
                return {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise DataError(f"there is no file {path}", file=path) from None
    except _DAMAGE as error:
        raise DataError(
            f"{path} is damaged or is no .npz of plain arrays: {error}",
            hint="save it with numpy.savez(file, features=…, track_id=…), texts as dtype U, not object",
            file=path,
        ) from None


def _refuse_bomb(path: Path) -> None:
    """Refuse an archive that unpacks to far more than features ever do, before it fills the memory.

    Raises:
        ValueError: It does.
    """
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > _MOST_UNPACKED + _MOST_RATIO * path.stat().st_size:
        raise ValueError(f"it unpacks to {unpacked:,} bytes")


def _column(array: Any, name: str, *, path: Path, rows: int) -> list[str | None]:
    if array.shape != (rows,):
        raise DataError(f"{path}: '{name}' has shape {array.shape}, 'features' has {amount(rows, 'row')}", file=path)
    texts = array.tolist() if array.dtype.kind == "U" else [_text(value, name, path) for value in array.tolist()]
    return [text or None for text in texts]


def _text(value: object, name: str, path: Path) -> str:
    if not isinstance(value, bytes):
        return str(value)
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise DataError(f"{path}: '{name}' holds bytes that are no text: {value!r}", file=path) from None


def write_features_npz(path: Path, features: FeatureSet) -> None:
    """Write all features with their labels; what made them becomes further text arrays.

    Raises:
        StoreError: The file cannot be written.
    """
    rows = np.arange(len(features), dtype=np.int64)
    columns = {name: np.array([value or "" for value in getattr(features, name)], dtype=np.str_) for name in COLUMNS}
    facts = {**(features.identity or {}), "weights": features.weights or ""}
    extra = {name: np.array(value) for name, value in facts.items()}
    arrays: dict[str, Any] = {"features": features.matrix.take(rows), **columns, **extra}
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)
