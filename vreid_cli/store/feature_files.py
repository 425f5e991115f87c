"""Features from whatever holds them: a store, the paper's JSON, or ``.npz``. The ending decides."""

from __future__ import annotations

from pathlib import Path

from vreid_cli.errors import DataError
from vreid_cli.store.features import FeatureStore
from vreid_cli.store.npz import read_features_npz
from vreid_cli.store.paper_json import JsonRanking, LabelReader, read_features_json
from vreid_cli.store.rankings import ParquetRanking
from vreid_cli.types.features import FeatureSet

RankingFile = ParquetRanking | JsonRanking


def read_feature_file(path: Path, labels: LabelReader) -> FeatureSet:
    """Read features; ``labels`` reads vehicle and camera from names where the file does not hold them.

    Raises:
        DataError, StoreError: The file is missing, damaged or of an unknown kind.
    """
    if path.is_dir():
        return FeatureStore(path).read()
    if path.suffix.lower() == ".json":
        return read_features_json(path, labels)
    if path.suffix.lower() == ".npz":
        return read_features_npz(path, labels)
    if not path.exists():
        raise DataError(f"there are no features at {path}", hint="make them with vreid extract", file=path)
    raise DataError(
        f"{path} is no feature file that is known",
        hint="known: a folder of a run's features/, the paper's .json, .npz",
        file=path,
    )


def open_ranking(path: Path, labels: LabelReader) -> RankingFile:
    """Open a ranking; ``labels`` reads cameras from names where a JSON does not hold them.

    Raises:
        DataError, StoreError: The file is missing, damaged or of an unknown kind.
    """
    if path.suffix.lower() == ".json":
        return JsonRanking(path, labels)
    if path.suffix.lower() == ".parquet":
        return ParquetRanking(path)
    raise DataError(f"{path} is no ranking that is known", hint="known: .parquet and the paper's .json", file=path)
