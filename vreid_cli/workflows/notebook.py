"""What a notebook needs beside :func:`vreid_cli.rank` and :func:`vreid_cli.evaluate`: reading features."""

from __future__ import annotations

from pathlib import Path

from vreid_cli.store.feature_files import read_feature_file
from vreid_cli.types.features import FeatureSet
from vreid_cli.types.labels import LabelPattern


def read_features(path: str | Path, *, label_pattern: str | None = None) -> FeatureSet:
    """Read features: a run's ``features/<split>`` folder (memory-mapped), the paper's ``.json``, or ``.npz``.

    Args:
        path: The folder or file.
        label_pattern: Regular expression with groups ``vehicle`` and ``camera`` that reads labels from names,
            where the file does not hold them; None for names like ``0002_c002_…``.

    Raises:
        VreidError: The file is missing, incomplete, damaged or of an unknown kind.
    """
    return read_feature_file(Path(path), LabelPattern.compile(label_pattern).vehicle_and_camera)
