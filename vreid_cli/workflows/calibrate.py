"""``vreid calibrate``: rankings with labels to files that give distances probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vreid_cli.config import Settings
from vreid_cli.errors import DataError, UsageError
from vreid_cli.evaluation.calibrate import FittedCalibration
from vreid_cli.evaluation.calibrate import calibrate as calibrate_rankings
from vreid_cli.models.weights import load_network
from vreid_cli.runtime.objects import as_path
from vreid_cli.runtime.progress import log, progress
from vreid_cli.store.calibrations import write_calibration
from vreid_cli.store.formats import read_ranking
from vreid_cli.store.runs import calibration_name, named_files, owning_run, some_rankings
from vreid_cli.types.calibrations import Calibration
from vreid_cli.types.rankings import Ranking
from vreid_cli.workflows.session import Report, RunChoice, Session

_ENDING = ".json"


@dataclass(frozen=True, kw_only=True, eq=False)
class CalibrateReport(Report):
    """What was fitted.

    Attributes:
        fitted: Each calibration by the file that holds it.
        in_run: Whether it lies in the run, so that later commands find it.
        run_option: What commands to come must say to find the run.
    """

    fitted: Mapping[str, FittedCalibration]
    in_run: bool
    run_option: str


def choose_run(settings: Settings) -> RunChoice:
    """The run whose rankings are calibrated; none where rankings are named."""
    named = bool(settings.calibrate.rankings)
    return RunChoice(use_latest=not named, free=("data.label_pattern",) if named else ())


def calibrate(session: Session) -> CalibrateReport:
    """Fit a calibration to the pairs of all rankings of one task, metric and definition.

    Raises:
        VreidError: A ranking is missing or cannot be fitted to, or a file cannot be written.
    """
    settings, chosen = session.settings, session.settings.calibrate
    paths = named_files(chosen.rankings or [session.need_run().path], some_rankings)
    found = [(path, read_ranking(path, label_pattern=settings.data.label_pattern)) for path in paths]
    if not chosen.rankings:
        # Candidates are no sample of all pairs; where a run has nothing else, the error says so.
        found = [(path, one) for path, one in found if one.facts.candidates is None] or found
    groups: dict[str, list[tuple[Path, Ranking]]] = {}
    for path, ranking in found:
        groups.setdefault(calibration_name(ranking.facts), []).append((path, ranking))
    outputs = _outputs(chosen.output, {name: [path for path, _ in group] for name, group in groups.items()})
    fitted: dict[str, FittedCalibration] = {}
    with progress(total=len(groups), what="calibrating", unit="metrics") as bar:
        for name, group in groups.items():
            rankings = [ranking for _, ranking in group]
            one = calibrate_rankings(rankings, chosen, counting=settings.evaluate, seed=settings.run.seed)
            if chosen.network is not None:
                one = replace(one, calibration=_for_network(one.calibration, rankings, chosen.network))
            elif len({repr(ranking.facts.identity) for ranking in rankings}) > 1:
                raise DataError(
                    f"{', '.join(str(path) for path, _ in group)} were made from features of different networks",
                    hint="calibrate each by itself, or say with --network which one the result holds for",
                )
            fitted[str(outputs[name])] = one
            bar.update(1)
    for output, one in fitted.items():
        write_calibration(as_path(output), one.calibration)
    warnings = tuple(warning for one in fitted.values() for warning in one.warnings)
    for warning in warnings:
        log.warning("%s", warning)
    if not chosen.rankings:
        session.record()
    return CalibrateReport(
        outputs=tuple(fitted),
        warnings=warnings,
        fitted=fitted,
        in_run=chosen.output is None,
        run_option=session.run_option,
    )


def _outputs(output: Path | None, groups: Mapping[str, Sequence[Path]]) -> dict[str, Path]:
    """Where each calibration goes: to its run, or where ``--output`` says."""
    if output is None:
        runs = {name: owning_run(paths[0]) for name, paths in groups.items()}
        homes = {name: run.calibrations / f"{name}{_ENDING}" for name, run in runs.items() if run is not None}
        lost = [str(groups[name][0]) for name in groups if name not in homes]
        if lost:
            raise UsageError(
                f"{lost[0]} lies in no run: where should its calibration go?", hint="give --output FILE.json"
            )
        return homes
    if output.suffix.lower() != _ENDING:
        raise UsageError(f"--output {output}: a calibration is written as {_ENDING}", hint=f"use {output}{_ENDING}")
    if len(groups) > 1:
        raise UsageError(
            f"--output {output}: there are {len(groups)} calibrations to write: {', '.join(groups)}",
            hint="name rankings of a single task and metric",
        )
    return dict.fromkeys(groups, output)


def _for_network(calibration: Calibration, rankings: Sequence[Ranking], weights: str) -> Calibration:
    """The calibration bound to other weights of the same architecture and input.

    Raises:
        DataError: The rankings come from networks of another kind.
    """
    identities = [dict(ranking.facts.identity or {}) for ranking in rankings]
    network = load_network(weights, arch=identities[0].get("architecture"))
    kind = {"architecture": network.architecture, "transform": network.transform.identity}
    for ranking, identity in zip(rankings, identities, strict=True):
        for name, wanted in kind.items():
            if identity.get(name) != wanted:
                raise DataError(
                    f"--network {weights}: its {name} is {wanted}, that of {ranking.source} {identity.get(name)}",
                    hint="only networks that were trained alike can stand for another",
                    file=ranking.source,
                )
    return replace(calibration, identity={**identities[0], "weights_digest": network.digest})
