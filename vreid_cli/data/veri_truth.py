"""VeRi-776's own ground truth: which gallery images are right, and which are junk, for each query image."""

from __future__ import annotations

from pathlib import Path

from vreid_cli.data.lists import read_words
from vreid_cli.errors import DataError
from vreid_cli.types.amounts import amount
from vreid_cli.types.truth import GroundTruth

#: The files are met under these names: those of the release and two of its copies.
_GOOD = ("gt_index.txt", "gt_image.txt", "gt_index_776.txt")
_JUNK = ("jk_index.txt", "jk_image.txt", "jk_index_776.txt")


def read_truth(data_dir: Path) -> GroundTruth | None:
    """The index files beside VeRi's images; None where they, or the lists that they count in, are not there.

    Row k is about query k of ``name_query.txt``; its numbers are 1-based positions in ``name_test.txt``.

    Raises:
        DataError: The files do not fit each other.

    Examples:
        >>> lists = {"name_query": "a.jpg", "name_test": "a.jpg b.jpg", "gt_index": "2", "jk_index": "1"}
        >>> for name, words in lists.items():
        ...     _ = Path(f"{name}.txt").write_text(words.replace(" ", chr(10)))
        >>> truth = read_truth(Path("."))
        >>> truth.good["a.jpg"], truth.junk["a.jpg"]
        (frozenset({'b.jpg'}), frozenset({'a.jpg'}))
    """
    found = ([data_dir / name for name in names if (data_dir / name).is_file()] for names in (_GOOD, _JUNK))
    good, junk = (paths[0] if paths else None for paths in found)
    queries, gallery = data_dir / "name_query.txt", data_dir / "name_test.txt"
    if good is None or junk is None or not queries.is_file() or not gallery.is_file():
        return None
    query_names, gallery_names = ([words[0] for words in read_words(path) if words] for path in (queries, gallery))
    return GroundTruth(
        source=f"{good.name} and {junk.name}",
        gallery=frozenset(gallery_names),
        good=_rows(good, query_names, gallery_names),
        junk=_rows(junk, query_names, gallery_names),
    )


def _rows(path: Path, queries: list[str], gallery: list[str]) -> dict[str, frozenset[str]]:
    lines = read_words(path)
    while lines and not lines[-1]:
        lines.pop()
    if len(lines) != len(queries):
        raise DataError(
            f"{path} has {amount(len(lines), 'row')} for {amount(len(queries), 'name')} in name_query.txt",
            hint="both must come from one release; remove the index files to count by names alone",
            file=path,
        )
    rows: dict[str, frozenset[str]] = {}
    for number, (query, words) in enumerate(zip(queries, lines, strict=True), start=1):
        if not all(word.isdecimal() and 1 <= int(word) <= len(gallery) for word in words):
            raise DataError(
                f"{path}, line {number}: expected positions from 1 to {len(gallery)}, found '{' '.join(words)[:60]}'",
                file=path,
            )
        rows[query] = frozenset(gallery[int(word) - 1] for word in words)
    return rows
