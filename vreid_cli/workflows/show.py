"""``vreid show``: the nearest items of some queries, as a table or a contact sheet."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vreid_cli.config import Settings
from vreid_cli.data.boxes import Crop, locate_image
from vreid_cli.errors import DataError, StoreError, UsageError, did_you_mean
from vreid_cli.ranking.tracks import group_tracks, image_items
from vreid_cli.reports.sheet import SheetItem, SheetRow, Verdict, draw_sheet, save_sheet
from vreid_cli.runtime.progress import log
from vreid_cli.store.feature_files import RankingFile, open_ranking
from vreid_cli.store.runs import RunDirectory, owning_run, rankings_in
from vreid_cli.types.features import MEANINGLESS, FeatureSet
from vreid_cli.types.images import Split
from vreid_cli.types.rankings import RankedItem, RankingFacts
from vreid_cli.workflows.session import Report, Session

_DEFAULT_RANKING = "t2t-meanMCD50.parquet"
#: Letters of a caption that the narrowest strip of a sheet has room for.
_CAPTION = 27


@dataclass(frozen=True)
class ShowReport(Report):
    """The nearest items that were asked for.

    Attributes:
        ranking: Where they come from.
        facts: How that was made.
        notes: What must be said beside them: the counting rules, and what is doubtful.
        nearest: By query id, in rank order, without self and junk.
        hidden: Queries that were not asked for by name and are not shown.
    """

    ranking: Path = Path()
    facts: RankingFacts = field(default_factory=RankingFacts)
    notes: str = ""
    nearest: Mapping[str, Sequence[RankedItem]] | None = None
    hidden: int = 0


def show(session: Session) -> ShowReport:
    """Look up the nearest items; with ``--output`` draw them.

    Raises:
        VreidError: The ranking, a query or the images are not there.
    """
    settings = session.settings
    _check_output(settings.show.output)
    path = _find_ranking(session)
    ranking = open_ranking(path, session.labels())
    queries, hidden = _choose_queries(ranking, settings)
    nearest = ranking.nearest(queries, top=settings.show.top, same_camera=settings.evaluate.same_camera)
    notes = describe(ranking.facts, settings)
    warnings = [MEANINGLESS] if ranking.facts.meaningless else []
    outputs: tuple[str, ...] = ()
    if settings.show.output is not None:
        warnings += _draw(_run_with_images(session, path), ranking, nearest, settings=settings, notes=notes)
        outputs = (str(settings.show.output),)
    for warning in warnings:
        log.warning("%s", warning)
    if settings.show.ranking is None:
        session.record()
    return ShowReport(
        outputs,
        warnings=tuple(warnings),
        ranking=path,
        facts=ranking.facts,
        notes=notes,
        nearest=nearest,
        hidden=hidden,
    )


def describe(facts: RankingFacts, settings: Settings) -> str:
    """One sentence that says how the ranking was made and counted."""
    left_out = {
        "drop": "the query itself and what its own camera saw of its vehicle",
        "keep": "the query itself only",
    }[settings.evaluate.same_camera]
    parts = [
        f"dataset {facts.dataset or 'unknown'}",
        f"task {facts.task or 'unknown'}",
        f"definition {facts.definition or 'unknown'}",
        *([f"track unit {facts.track_unit}"] if facts.track_unit else []),
        *facts.recipe,
        *([f"trial {facts.trial} of gallery and queries (seed {facts.trial_seed})"] if facts.trial is not None else []),
        f"{facts.cameras} cameras",
        *([facts.listed] if facts.listed else []),
        f"ranks leave out {left_out} (--same-camera {settings.evaluate.same_camera})",
    ]
    return "; ".join(parts)


def _check_output(output: Path | None) -> None:
    if output is not None and output.suffix.lower() != ".png":
        raise UsageError(f"--output {output}: unknown ending '{output.suffix}'", hint="known: .png")


def _find_ranking(session: Session) -> Path:
    named = session.settings.show.ranking
    if named is not None:
        return named
    run = session.need_run()
    found = rankings_in(run.rankings)
    default = run.rankings / _DEFAULT_RANKING
    if default in found or len(found) == 1:
        chosen = default if default in found else found[0]
        log.info("ranking: %s", chosen)
        return chosen
    if not found:
        raise StoreError(f"{run.path} has no rankings yet", hint="make one with vreid rank", file=run.rankings)
    names = ", ".join(str(path) for path in found)
    raise StoreError(f"{run.path} has several rankings", hint=f"choose one with --ranking: {names}", file=run.rankings)


def _choose_queries(ranking: RankingFile, settings: Settings) -> tuple[list[str], int]:
    known = ranking.query_ids()
    if not known:
        limits = ranking.facts.listed
        raise DataError(
            f"{ranking.path} lists nothing for any query{f' ({limits})' if limits else ''}",
            hint="choose a larger --threshold" if ranking.facts.threshold is not None else "make it again",
            file=ranking.path,
        )
    wanted = settings.show.queries
    if not wanted:
        shown = known[: settings.show.max_queries]
        return shown, len(known) - len(shown)
    chosen: dict[str, None] = {}
    for name in wanted:
        matches = [name] if name in known else fnmatch.filter(known, name)
        if not matches:
            raise UsageError(f"{ranking.path} has no query '{name}'", hint=_offer(name, known))
        chosen |= dict.fromkeys(matches)
    return list(chosen), 0


def _offer(name: str, known: Sequence[str]) -> str:
    if len(known) <= 20:
        return did_you_mean(name, known)
    similar = [query for query in known if query.startswith(name)][:5]
    return f"such as {', '.join(similar or known[:5])}, … ({len(known)} queries; * and ? stand for anything)"


def _run_with_images(session: Session, path: Path) -> RunDirectory:
    """The run that a ranking lies in, else the one that is named."""
    run = owning_run(path)
    if run is None and session.run is None:
        raise StoreError(
            f"{path} lies in no run, and only a run knows where its images are",
            hint="name the run that holds them with --run-dir, or leave out --output for a table",
            file=path,
        )
    return run or session.need_run()


def _draw(
    run: RunDirectory,
    ranking: RankingFile,
    nearest: Mapping[str, Sequence[RankedItem]],
    *,
    settings: Settings,
    notes: str,
) -> list[str]:
    """Draw the sheet; tells which images could not be drawn."""
    output, facts = settings.show.output, ranking.facts
    assert output is not None
    query_split: Split = "gallery" if facts.query_source == "gallery" else "query"
    query_images = _Images(run, query_split, facts, images=facts.task in ("i2i", "i2t"))
    gallery_images = _Images(run, "gallery", facts, images=facts.task == "i2i")
    rows = []
    for query, items in nearest.items():
        labels = _caption(items[0].query_vehicle, items[0].query_camera) if items else ""
        head = SheetItem(name=query, images=query_images.of(query), caption=labels)
        rows.append(SheetRow(head, [_sheet_item(item, gallery_images) for item in items]))
    unknown = _check_names(run, ranking, query_images, gallery_images)
    nearest_ones = "the nearest" if settings.show.top == 1 else f"the {settings.show.top} nearest"
    title = f"{facts.metric or 'unknown metric'} - {nearest_ones}"
    notes = f"{notes}.\n{MEANINGLESS.upper()}" if facts.meaningless else f"{notes}."
    result = draw_sheet(rows, title=title, subtitle=notes, max_images=settings.show.max_images)
    save_sheet(result.image, output)
    return [*unknown, *(f"{path}: {reason}" for path, reason in result.missing)]


def _check_names(run: RunDirectory, ranking: RankingFile, *sides: _Images) -> list[str]:
    """What tells that the run is not the one that the ranking was made from.

    Raises:
        DataError: The run knows none of the names.
    """
    hint = "name the run that the ranking was made from with --run-dir"
    if not any(side.known for side in sides):
        raise DataError(f"the run {run.path} holds nothing that {ranking.path} names", hint=hint, file=ranking.path)
    unknown = sorted(name for side in sides for name in side.unknown)
    warnings = [f"the run {run.path} has no images of {len(unknown)} names, as {unknown[0]}: {hint}"] if unknown else []
    identity = sides[-1].identity
    if None not in (identity, ranking.facts.gallery_identity) and identity != ranking.facts.gallery_identity:
        warnings.append(f"{ranking.path} was not made from the features of {run.path}: the images may be others")
    return warnings


def _sheet_item(item: RankedItem, images: _Images) -> SheetItem:
    if item.query_vehicle is None or item.gallery_vehicle is None:
        verdict = Verdict.UNLABELLED
    else:
        verdict = Verdict.MATCH if item.query_vehicle == item.gallery_vehicle else Verdict.DIFFERENT
    return SheetItem(
        name=item.gallery_id,
        images=images.of(item.gallery_id),
        caption=_caption(item.gallery_vehicle, item.gallery_camera),
        verdict=verdict,
        rank=item.rank,
        distance=item.distance,
    )


def _caption(vehicle: str | None, camera: str | None) -> str:
    named = [("vehicle", vehicle), ("camera", camera)]
    full = " · ".join(f"{what} {label}" for what, label in named if label)
    # Labels that tell more than a number stand for themselves, and would leave no room for the words.
    return full if len(full) <= _CAPTION else " · ".join(label for _, label in named if label)


class _Images:
    """Image files of the items of one split.

    Attributes:
        identity: What made the features of the run.
        known: Names that were asked for and are in the run.
        unknown: Names that were asked for and are not.
    """

    def __init__(self, run: RunDirectory, split: Split, facts: RankingFacts, *, images: bool) -> None:
        self._features: FeatureSet = run.features(split).read()
        self.identity = self._features.identity
        self.known: set[str] = set()
        self.unknown: set[str] = set()
        root = self._features.image_root
        if root is None or not Path(root).is_dir():
            raise DataError(
                f"the images of {run.path} are not {f'at {root}' if root else 'where they were'} any more",
                hint="run vreid extract again with the --data-dir where they are now; nothing is computed anew",
                file=root,
            )
        self._root = Path(root)
        tracks = image_items(self._features) if images else group_tracks(self._features, facts.track_unit or "passage")
        self._tracks = tracks
        self._position = {name: index for index, name in enumerate(tracks.items.ids)}

    def of(self, name: str) -> list[Path | Crop]:
        """The item's images, in order; none where the run does not know it."""
        position = self._position.get(name)
        (self.unknown if position is None else self.known).add(name)
        if position is None:
            return []
        rows = self._tracks.rows[self._tracks.offsets[position] : self._tracks.offsets[position + 1]]
        return [locate_image(self._root, self._features.image_id[row]) for row in rows]
