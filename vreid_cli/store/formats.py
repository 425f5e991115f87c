"""The tables of file formats: a new one is one more entry, and works from the command line with it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from vreid_cli.errors import DataError, UsageError
from vreid_cli.runtime.objects import as_path
from vreid_cli.types.features import FeatureSet
from vreid_cli.types.lazy import load
from vreid_cli.types.rankings import BlockWriter, Ranking, RankingFacts
from vreid_cli.types.tracks import Items


@dataclass(frozen=True)
class Format:
    """One kind of file; functions are named as :func:`vreid_cli.types.lazy.load` takes them.

    Attributes:
        what: What it is, for help and messages.
        reads: ``(path, label_pattern) -> FeatureSet`` or ``Ranking``; None where it is only written.
        writes: ``(path, features)``, or for rankings ``(path, facts, *, queries, gallery)``, a context manager that
            yields a :data:`~vreid_cli.types.rankings.BlockWriter`; None where it is only read.
        reads_facts: ``(path) -> RankingFacts``, where that is quicker than to read the ranking.
        task: The only task whose rankings it can hold; None for all.
        folder: Whether it is a folder with that ending, not a file.
    """

    what: str
    reads: str | None = None
    writes: str | None = None
    reads_facts: str | None = None
    task: str | None = None
    folder: bool = False


#: Features by ending; a folder is that of a run's split.
FEATURE_FORMATS: dict[str, Format] = {
    "": Format("a folder of a run's features/", "vreid_cli.store.formats:read_feature_folder"),
    ".json": Format(
        "the paper's .json",
        "vreid_cli.store.paper_json:read_features_json",
        "vreid_cli.store.paper_json:write_features_json",
    ),
    ".npz": Format(".npz", "vreid_cli.store.npz:read_features_npz", "vreid_cli.store.npz:write_features_npz"),
    ".lancedb": Format(
        "a LanceDB .lancedb",
        "vreid_cli.store.lance:read_features_lance",
        "vreid_cli.store.lance:write_features_lance",
        folder=True,
    ),
}
#: Rankings by ending.
RANKING_FORMATS: dict[str, Format] = {
    ".parquet": Format(
        ".parquet",
        "vreid_cli.store.rankings:read_ranking_parquet",
        "vreid_cli.store.rankings:write_ranking_parquet",
        reads_facts="vreid_cli.store.rankings:read_facts_parquet",
    ),
    ".json": Format(
        "the paper's .json",
        "vreid_cli.store.paper_json:read_ranking_json",
        "vreid_cli.store.paper_json:write_ranking_json",
    ),
    ".txt": Format(
        "a submission .txt of the 100 nearest for AI City",
        writes="vreid_cli.store.submission:write_submission",
        task="i2i",
    ),
}


def endings(formats: Mapping[str, Format], *, read: bool) -> tuple[str, ...]:
    """The endings of the formats that can be read, or written.

    Examples:
        >>> endings(RANKING_FORMATS, read=True)
        ('.parquet', '.json')
    """
    return tuple(name for name, one in formats.items() if name and (one.reads if read else one.writes))


def known_formats(formats: Mapping[str, Format], *, read: bool) -> str:
    """The formats that can be read, or written, in words for help and hints.

    Examples:
        >>> known_formats(FEATURE_FORMATS, read=True)
        "a folder of a run's features/, the paper's .json, .npz, a LanceDB .lancedb"
    """
    return ", ".join(one.what for one in formats.values() if (one.reads if read else one.writes))


def read_features(path: str | Path, *, label_pattern: str | None = None) -> FeatureSet:
    """Read features: a run's ``features/<split>`` (memory-mapped), ``.npz``, ``.lancedb``, the paper's ``.json``.

    Args:
        path: The folder or file; the ending decides.
        label_pattern: Regular expression with groups ``vehicle`` and ``camera`` that reads labels from names,
            where the file does not hold them; None for names like ``0002_c002_…``.

    Raises:
        DataError, StoreError: The file is missing, incomplete, damaged or of an unknown kind.
        UsageError: The pattern is no valid expression.

    Examples:
        >>> import json
        >>> from pathlib import Path
        >>> _ = Path("gallery.json").write_text(json.dumps({"0002_c002": [[0.5, 1.0]], "0003_c001": [[1.0, 0.0]]}))
        >>> features = read_features("gallery.json")
        >>> len(features), list(features.vehicle_id)
        (2, ['0002', '0003'])
    """
    path = as_path(path)
    found = FEATURE_FORMATS.get(path.suffix.lower() or ".")
    if path.is_dir() and (found is None or not found.folder):
        found = FEATURE_FORMATS[""]
    if found is not None and found.reads is not None:
        features: FeatureSet = load(found.reads)(path, label_pattern)
        return features
    if not path.exists():
        raise DataError(f"there are no features at {path}", hint="make them with vreid extract", file=path)
    raise DataError(
        f"{path} is no feature file that is known",
        hint=f"known: {known_formats(FEATURE_FORMATS, read=True)}",
        file=path,
    )


def read_feature_folder(path: Path, label_pattern: str | None = None) -> FeatureSet:
    """Features of a run's split, memory-mapped; they hold their labels, so no pattern is needed.

    Raises:
        StoreError: They are missing, incomplete or damaged.
    """
    from vreid_cli.store.features import FeatureStore

    return FeatureStore(path).read()


def write_features(path: Path, features: FeatureSet) -> None:
    """Write features; the ending decides how.

    Raises:
        UsageError: The ending is unknown.
        StoreError: The file cannot be written.
    """
    load(_writer(FEATURE_FORMATS, path))(path, features)


def read_ranking(path: str | Path, *, label_pattern: str | None = None) -> Ranking:
    """Read a ranking: ``.parquet``, whose lists stay on disk and are read in pieces, or the paper's ``.json``.

    Args:
        path: The file; the ending decides.
        label_pattern: As for :func:`read_features`; only cameras of a ``.json`` are read from names.

    Raises:
        DataError, StoreError: The file is missing, damaged or of an unknown kind.
        UsageError: The pattern is no valid expression.

    Examples:
        >>> import json
        >>> from pathlib import Path
        >>> lists = {"1": {"id": "0002_c003", "class": "0002", "distance": 0.25}}
        >>> content = {"metric": "MCD", "tracks": {"0002_c001": {"class": "0002", "ranking": lists}}}
        >>> _ = Path("ranking.json").write_text(json.dumps(content))
        >>> ranking = read_ranking("ranking.json")
        >>> ranking.facts.metric, list(ranking.queries.ids), list(ranking.gallery.cameras)
        ('MCD', ['0002_c001'], ['c003'])
    """
    path = as_path(path)
    ranking: Ranking = load(_ranking_format(path).reads or "")(path, label_pattern)
    return ranking


def read_ranking_facts(path: Path) -> RankingFacts:
    """How a ranking was made, without its lists where the format allows that.

    Raises:
        DataError, StoreError: The file is missing, damaged or of an unknown kind.
    """
    found = _ranking_format(path)
    facts: RankingFacts = load(found.reads_facts)(path) if found.reads_facts else read_ranking(path).facts
    return facts


def write_ranking(
    path: Path, facts: RankingFacts, *, queries: Items, gallery: Items
) -> AbstractContextManager[BlockWriter]:
    """Write a ranking block by block, inside ``with``; the file appears at the end. The ending decides how.

    Raises:
        UsageError: The ending is unknown.
        DataError: The format cannot hold these items.
        StoreError: The file cannot be written.
    """
    write = load(_writer(RANKING_FORMATS, path))
    writer: AbstractContextManager[BlockWriter] = write(path, facts, queries=queries, gallery=gallery)
    return writer


def _ranking_format(path: Path) -> Format:
    found = RANKING_FORMATS.get(path.suffix.lower())
    if found is None or found.reads is None:
        raise DataError(
            f"{path} is no ranking that is known", hint=f"known: {known_formats(RANKING_FORMATS, read=True)}", file=path
        )
    return found


def _writer(formats: Mapping[str, Format], path: Path) -> str:
    found = formats.get(path.suffix.lower())
    if found is None or found.writes is None:
        raise UsageError(f"{path}: unknown ending '{path.suffix}'", hint=f"known: {known_formats(formats, read=False)}")
    return found.writes
