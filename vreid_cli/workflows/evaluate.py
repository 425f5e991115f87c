"""``vreid evaluate``: finds the rankings and their ground truth, and writes what was found about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vreid_cli.config import EvaluateSettings, Settings
from vreid_cli.data.layouts import LAYOUTS
from vreid_cli.data.listing import DataFolders
from vreid_cli.data.mot import track_name
from vreid_cli.data.trackers import read_mot_text
from vreid_cli.errors import StoreError, UsageError
from vreid_cli.evaluation.box_identities import evaluate_boxes
from vreid_cli.evaluation.comparison import Comparison, TrialScores, compare, over_trials
from vreid_cli.evaluation.evaluate import Evaluation
from vreid_cli.evaluation.evaluate import evaluate as evaluate_ranking
from vreid_cli.evaluation.identities import IdentityScores, evaluate_identities
from vreid_cli.reports.evaluation_json import evaluation_json
from vreid_cli.reports.identities import identity_scores_json
from vreid_cli.reports.names import Evaluations, enumerate_some, names_of
from vreid_cli.reports.plots import check_plot_path, plot_evaluation
from vreid_cli.runtime.files import write_json
from vreid_cli.runtime.objects import as_path
from vreid_cli.runtime.progress import log, progress
from vreid_cli.store.formats import read_ranking
from vreid_cli.store.identities import IDENTITY_ENDINGS, is_identities, read_identities
from vreid_cli.store.query_scores import check_table_path, write_query_scores
from vreid_cli.store.review import read_review
from vreid_cli.store.runs import RunDirectory, identities_in, named_files, owning_run, rankings_in, some_rankings
from vreid_cli.types.arrays import text_array
from vreid_cli.workflows.calibrations import older_than_features, with_probabilities
from vreid_cli.workflows.ground_truth import ground_truth
from vreid_cli.workflows.session import Report, RunChoice, Session

#: How many rankings a plot shows: all that one network has of the paper's two tasks. Of more no name can be read.
PLOTTED_RANKINGS = 14

#: What the name of a file of identities' scores ends in.
_SCORES = "-scores.json"


@dataclass(frozen=True, eq=False)
class EvaluateReport(Report):
    """Scores of each ranking.

    Attributes:
        results: The evaluations by the path of their ranking, in the order given.
        extras: The table and the plot that were asked for; they are among the outputs too.
        comparisons: By the path of the ranking that is compared with, then by that of the other.
        trials: Means over trials, where the protocol has them.
        identities: Scores of identities, by the path of their table.
    """

    results: Evaluations
    extras: tuple[str, ...]
    comparisons: Mapping[str, Mapping[str, Comparison | None]]
    trials: tuple[TrialScores, ...]
    identities: Mapping[str, IdentityScores]


def choose_run(settings: Settings) -> RunChoice:
    """The run whose rankings are scored; none where rankings are named."""
    named = bool(settings.evaluate.rankings)
    # Parquet holds its labels; only those of the paper's JSON are read from names.
    return RunChoice(use_latest=not named, free=("data.label_pattern",) if named else ())


def evaluate(session: Session) -> EvaluateReport:
    """Score the rankings and identities that are named (a folder stands for those in it), or all of the run.

    Raises:
        VreidError: A ranking is missing or damaged, the run or a folder has none, or what is asked for
            cannot be written.
    """
    chosen = session.settings.evaluate
    if chosen.per_query is not None:
        check_table_path(chosen.per_query)
    if chosen.plot is not None:
        check_plot_path(chosen.plot)
    if chosen.truth is not None and chosen.split_open is not None:
        message = "--truth and --split-open exclude each other: marks say nothing of vehicles that are held out"
        raise UsageError(message, hint="leave one of them out")
    named = chosen.rankings or [session.need_run().path]
    tables, paths = _split_kinds(named_files(named, _scored_files))
    identities = {str(path): _evaluate_identities(path, session) for path in tables}
    results, skipped, older = _evaluate_rankings(paths, session)
    warnings = [*older, *_all_warnings({**results, **identities})]
    warnings += [f"skipped: {entry['reason']}" for entry in skipped]
    kept = [_keep(as_path(path), one, warnings) for path, one in results.items()]
    kept += [_keep_identities(as_path(path), one, warnings) for path, one in identities.items()]
    outputs = [output for output in kept if output]
    extras = _write_extras(chosen, results, warnings)
    for warning in warnings:
        log.warning("%s", warning)
    if not chosen.rankings:
        session.record()
    return EvaluateReport(
        outputs=(*outputs, *extras),
        skipped=skipped,
        warnings=tuple(warnings),
        results=results,
        extras=tuple(extras),
        # The first file of a folder was named by nobody: its name is merely the first of the alphabet.
        comparisons=_compare(results, named=bool(chosen.rankings) and not chosen.rankings[0].is_dir()),
        trials=tuple(over_trials(results.values())),
        identities=identities,
    )


def _evaluate_rankings(
    paths: Sequence[Path], session: Session
) -> tuple[dict[str, Evaluation], tuple[dict[str, str | None], ...], list[str]]:
    """The evaluations, the damaged rankings that were left out, and what to say of those older than their features.

    Raises:
        VreidError: A ranking that was named is damaged, or every one is.
    """
    settings, chosen = session.settings, session.settings.evaluate
    review = None if chosen.truth is None else read_review(chosen.truth)
    results: dict[str, Evaluation] = {}
    skipped: list[dict[str, str | None]] = []
    older: list[str] = []
    with progress(total=len(paths), what="evaluating", unit="rankings") as bar:
        for path in paths:
            try:
                ranking = with_probabilities(path, read_ranking(path, label_pattern=settings.data.label_pattern))
                truth = review or ground_truth(path, ranking.facts)
                results[str(path)] = evaluate_ranking(ranking, chosen, truth=truth, seed=settings.run.seed)
                older += filter(None, [older_than_features(path, ranking.facts)])
            except StoreError as error:
                last = path == paths[-1] and not results
                if last or path in chosen.rankings or error.file != str(path):
                    raise
                skipped.append({"ranking": str(path), "reason": error.message})
            bar.update(1)
    return results, tuple(skipped), older


# -- which rankings ------------------------------------------------------------------------------------------


def _scored_files(folder: Path) -> list[Path]:
    """The rankings in a folder, or all that can be scored of a run."""
    run = RunDirectory(folder)
    if run.info_path.is_file():
        return _all_of(run)
    # Beside tables of identities lie their scores.
    return [path for path in some_rankings(folder) if not path.name.endswith(_SCORES)]


def _all_of(run: RunDirectory) -> list[Path]:
    """All rankings of a run, and those identities whose vehicles are known."""
    rankings, tables = rankings_in(run.rankings), identities_in(run.identities)
    scored = [path for path in tables if any(name is not None for name in read_identities(path).tracks.vehicles)]
    if not rankings and not scored:
        found = f"the vehicles of {tables[0]} are not known, and there" if tables else "there"
        hint = "make one with vreid rank, or identities with vreid associate"
        raise StoreError(f"{found} are no rankings in {run.rankings}", hint=hint, file=run.rankings)
    return [*rankings, *scored]


def _split_kinds(paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Tables of identities, and rankings."""
    tables = [path for path in paths if path.suffix.lower() in IDENTITY_ENDINGS and is_identities(path)]
    return tables, [path for path in paths if path not in tables]


def _compare(results: Evaluations, *, named: bool) -> dict[str, dict[str, Comparison | None]]:
    """Every ranking against the first of its task that was named, else against the best."""
    # Only the same queries can be paired, so a comparison between tasks would say nothing.
    groups: dict[object, dict[str, Evaluation]] = {}
    for path, one in results.items():
        facts = one.facts
        # Trials have other queries each: what differs between two of them is luck, not the metric.
        if facts.trial is None:
            unit = facts.track_unit if facts.task == "t2t" else None
            groups.setdefault((facts.dataset, facts.task, unit), {})[path] = one
    found = {}
    for group in groups.values():
        exact = {path: one.mean_ap for path, one in group.items() if one.mean_ap is not None}
        if len(group) < 2 or not exact:
            continue
        against = next(iter(group)) if named else max(exact, key=lambda path: exact[path])
        if group[against].facts.coverage != "top-k":
            found[against] = {path: compare(one, group[against]) for path, one in group.items() if path != against}
    return found


# -- what is written -----------------------------------------------------------------------------------------


def _keep(path: Path, one: Evaluation, warnings: list[str]) -> str | None:
    """Write the scores beside the rankings of the run; that they cannot be written is no reason not to show them."""
    run = owning_run(path)
    if run is None:
        return None
    output = run.evaluations / f"{path.stem}.json"
    try:
        write_json(output, {"schema": 1, "results": [evaluation_json(str(path), one)]})
    except StoreError as error:
        warnings.append(error.message)
        return None
    return str(output)


def _evaluate_identities(path: Path, session: Session) -> IdentityScores:
    """Scores of a table of identities, and of its boxes where the run's data folder has true ones."""
    found = read_identities(path)
    scores = evaluate_identities(found, session.settings.evaluate, seed=session.settings.run.seed)
    run = owning_run(path)
    info = {} if run is None else run.read_info()
    layout, data_dir = LAYOUTS.get(info.get("dataset") or ""), info.get("data_dir")
    if layout is None or layout.recordings is None or not data_dir or not as_path(data_dir).is_dir():
        return scores
    recordings = layout.find_recordings(DataFolders(as_path(data_dir), track_file=info.get("track_file")))
    truth = {one.camera: read_mot_text(one.truth) for one in recordings if one.truth is not None}
    if not truth:
        return scores
    number = dict(zip(found.tracks.ids, found.identity.tolist(), strict=True))
    boxes = {}
    for one in recordings:
        own = one.boxes()
        names = [track_name(one.camera, str(track)) for track in own.track]
        # A track without a usable image is an identity of its own.
        boxes[one.camera] = replace(own, track=text_array([str(number.get(name, name)) for name in names]))
    return replace(scores, boxes=evaluate_boxes(boxes, truth))


def _keep_identities(path: Path, one: IdentityScores, warnings: list[str]) -> str | None:
    """Write the scores beside the identities of the run."""
    if owning_run(path) is None:
        return None
    output = path.with_name(f"{path.stem}{_SCORES}")
    try:
        write_json(output, {"schema": 1, "identities": [identity_scores_json(str(path), one)]})
    except StoreError as error:
        warnings.append(error.message)
        return None
    return str(output)


def _write_extras(chosen: EvaluateSettings, results: Evaluations, warnings: list[str]) -> list[str]:
    """The table of queries and the plot, where they are asked for."""
    if chosen.per_query is not None:
        write_query_scores(chosen.per_query, _query_columns(results))
    if chosen.plot is not None:
        names = names_of(results)
        best = sorted(results, key=lambda path: -(results[path].mean_ap or 0))[:PLOTTED_RANKINGS]
        plotted = {names[path]: one for path, one in results.items() if path in best}
        if len(plotted) < len(results):
            warnings.append(
                f"{chosen.plot} shows the {len(plotted)} best of {len(results)} rankings: name those to show"
            )
        plot_evaluation(chosen.plot, plotted)
    return [str(path) for path in (chosen.per_query, chosen.plot) if path is not None]


def _query_columns(results: Evaluations) -> Mapping[str, NDArray[np.generic]]:
    def column(name: str) -> NDArray[Any]:
        return np.concatenate([getattr(one.queries, name) for one in results.values()])

    counts = [len(one.queries.query_ids) for one in results.values()]
    refused = np.repeat([one.facts.coverage == "top-k" for one in results.values()], counts)
    first = column("first_positive")
    return {
        "ranking": np.repeat(np.array(list(results), dtype=object), counts),
        "query_id": column("query_ids"),
        "vehicle": column("vehicles"),
        "average_precision": np.where(refused, np.nan, column("average_precision")),
        "inverse_penalty": np.where(refused, np.nan, column("inverse_penalty")),
        "first_positive": np.where(first > 0, first, np.nan),
        "positives": column("positives"),
        "junk": column("junk"),
    }


def _all_warnings(results: Mapping[str, Evaluation | IdentityScores]) -> list[str]:
    """What is doubtful, each once, with the rankings that it is about unless that is all of them."""
    about: dict[str, list[Path]] = {}
    for path, one in results.items():
        for warning in one.warnings:
            about.setdefault(warning, []).append(as_path(path))
    names = [Path(path).name for path in results]
    return [
        text
        if len(paths) == len(results)
        # Rankings of several runs have the same names.
        else f"{enumerate_some(str(path) if names.count(path.name) > 1 else path.name for path in paths)}: {text}"
        for text, paths in about.items()
    ]
