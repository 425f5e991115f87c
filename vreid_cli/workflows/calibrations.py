"""Which calibration a ranking has: one that is named, that of its run, or the one that ships with its network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from vreid_cli.runtime.progress import log
from vreid_cli.store.calibrations import calibrations_in, read_calibration, shipped_calibrations
from vreid_cli.store.runs import RunDirectory, calibration_name, owning_run
from vreid_cli.types.calibrations import Calibration
from vreid_cli.types.images import Split
from vreid_cli.types.rankings import Ranking, RankingFacts, choose_fitting


class CalibrationFinder:
    """Finds what gives the distances of rankings probabilities.

    Args:
        named: Files or folders that are named; then nothing else is looked at.
        run: The run whose calibrations are looked at.

    Attributes:
        warnings: What of the run was not used, and why.
    """

    def __init__(self, named: Sequence[Path], run: RunDirectory | None) -> None:
        self._named, self._run = named, run
        self.warnings: list[str] = []

    def __call__(self, rankings: Sequence[RankingFacts]) -> Mapping[str, Calibration]:
        """The calibration of each ranking, by its metric; none for those that none fits.

        Raises:
            VreidError: One that is named is missing, damaged, or fits no ranking.
        """
        if self._named:
            found: dict[str, Calibration] = {}
            for path in self._named:
                every = [read_calibration(one) for one in calibrations_in(path)]
                # Of a folder those are meant that fit.
                fitting = [one for one in every if any(facts.misfit(one) is None for facts in rankings)]
                found |= choose_fitting(fitting if path.is_dir() and fitting else every, rankings)
            if any(facts.identity is None and str(facts.metric) in found for facts in rankings):
                self.warnings.append(
                    "the features do not say which network made them: that the calibration is for it cannot be checked"
                )
            return found
        chosen = {str(facts.metric): self.find(facts) for facts in rankings}
        return {metric: one for metric, one in chosen.items() if one is not None}

    def find(self, facts: RankingFacts) -> Calibration | None:
        """That of the run, else the one that ships with the network; None where none fits.

        Raises:
            StoreError: One is damaged.
        """
        name = calibration_name(facts)
        own = None if self._run is None else self._run.calibrations / f"{name}.json"
        if own is not None and (own.exists() or own.is_symlink()):  # one that cannot be read is not none
            calibration = replace(read_calibration(own), source=f"{own.parent.name}/{own.name}")  # runs may be moved
            misfit = facts.misfit(calibration)
            if misfit is None:
                return calibration
            self.warnings.append(f"{own} is not used: {misfit}. Fit it again with vreid calibrate")
        return next((one for one in _shipped(facts) if facts.identity and facts.misfit(one) is None), None)


def older_than_features(path: Path, facts: RankingFacts) -> str | None:
    """What to say of a ranking whose run has other features by now than it was made from; None where it has not."""
    run = owning_run(path)
    if run is None:
        return None
    made_from: dict[Split, str | None] = {"gallery": facts.gallery_version, "query": facts.query_version}
    for split, version in made_from.items():
        store = run.features(split)
        if version is not None and store.is_complete() and store.version() not in (None, version):
            return f"{path} is older than the {split} features of its run: make it again with vreid rank --force"
    return None


def with_probabilities(path: Path, ranking: Ranking) -> Ranking:
    """A ranking that was read from a file, with probabilities where a calibration fits and it has none yet.

    What its own run was calibrated with since it was ranked takes the place of what ships with its network.
    """
    facts = ranking.facts
    if facts.metric is None or facts.min_probability is not None:
        return ranking
    kept, expected = facts.calibration, None
    if kept is not None:
        if kept not in _shipped(facts):
            return ranking
        if facts.prior is not None and facts.prior != kept.prior(gallery_size=facts.gallery_size):  # it was chosen
            expected = facts.prior * facts.gallery_size
    finder = CalibrationFinder((), owning_run(path))
    calibration = finder.find(facts)
    for warning in finder.warnings:
        log.warning("%s", warning)
    if calibration is None:
        return ranking
    return replace(ranking, facts=facts.with_probabilities(calibration, expected=expected))


def _shipped(facts: RankingFacts) -> list[Calibration]:
    return [replace(read_calibration(path), source="shipped") for path in shipped_calibrations(calibration_name(facts))]
