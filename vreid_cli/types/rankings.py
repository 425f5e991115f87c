"""Ranked lists, and how they were made."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache
from typing import Any, Literal, Self

import numpy as np
from pydantic import TypeAdapter, ValidationError

from vreid_cli.errors import DataError
from vreid_cli.types.arrays import BoolArray, Float32Array, Int32Array, Int64Array
from vreid_cli.types.calibrations import Calibration, adapter_of
from vreid_cli.types.features import RANDOM_WEIGHTS
from vreid_cli.types.tracks import Items, TrackUnit

Task = Literal["t2t", "i2t", "i2i"]
Definition = Literal["paper", "released"]
Coverage = Literal["full", "positives", "top-k"]
#: What a fact is about. Rankings of one table of metrics by networks share settings and sizes. The probability of a
#: distance changes no ranking. What is said of each query is kept in files and shown nowhere else.
About = Literal["setting", "size", "network", "metric", "trial", "probability", "query"]
#: Stands in the place of a gallery item where nothing is near enough.
NO_MATCH = "no match"


@dataclass(frozen=True)
class Fact:
    """How one fact of a ranking is shown.

    Attributes:
        heading: Its name in tables and sentences; None where they leave it out.
        usual: The text that goes without saying; None where every text is said.
        about: What it is about.
        text: Makes the text from all the facts; None: the value itself.
    """

    heading: str | None
    usual: str | None
    about: About
    text: Callable[[RankingFacts], object] | None


def fact(
    default: Any,
    heading: str | None = None,
    *,
    usual: str | None = None,
    about: About = "setting",
    text: Callable[[RankingFacts], object] | None = None,
) -> Any:
    """A field of :class:`RankingFacts`: all that files, tables, sentences, comparisons and JSON need of it.

    ``default`` is the value where the fact is not known, or a function that makes it; the rest is a :class:`Fact`.
    """
    metadata = {"fact": Fact(heading, usual, about, text)}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class RankingFacts:
    """How a ranking was made; a fact that is not known is None.

    A new fact is one more field here, and the place that fills it: files keep it by its type, and tables, pages,
    comparisons and ``--json`` show it as :func:`fact` says.

    Attributes:
        dataset: Name of the data set's layout.
        task: ``t2t``, ``i2t`` or ``i2i``.
        track_unit: ``passage`` or ``camera``.
        definition: ``paper`` or ``released``.
        metric: One of the paper's names, as ``meanMCD50``.
        alpha: RSCR's weight of the codes' absolute values.
        fusion: The rankings that it was made of with their weights, where it was made of several.
        cameras: ``all``, or ``other`` where items of the query's own camera were never ranked.
        rerank: The numbers of k-reciprocal re-ranking, ``k1``, ``k2`` and ``lambda_value``, where that was done.
        query_source: The split that the query items were taken from.
        query_identity: What made the query's features.
        gallery_identity: What made the gallery's features.
        query_version: Digest over what the query's features were made from and how they were labelled.
        gallery_version: The same of the gallery's.
        weights: What the network's weights were called.
        precision: What the network computed in, if not in fp32.
        trial: Number of the trial that chose gallery and queries at random, from 0; None where nothing was random.
        trial_seed: The seed of the trials.
        coverage: ``full``: every gallery item is listed; ``positives``: at least every same-vehicle item,
            at its true rank; ``top-k``: the nearest only.
        candidates: How many items an index proposed for each query, where the others were not looked at.
        top_k: How many of the nearest are listed, where that was limited.
        threshold: Largest distance that is listed, where that was limited.
        min_probability: Smallest probability that is listed, where that was limited.
        no_match: Whether only answers are listed, and a row of its own where there is none.
        gallery_size: Number of gallery items, listed or not.
        query_count: Number of queries, also those that list nothing.
        query_lengths: Number of images of each query track.
        selves: For each query, the gallery items that are the query itself.
        prior: Share of the gallery that is taken to show the query's vehicle, where distances have probabilities.
        calibration: What gives them.

    Examples:
        >>> facts = RankingFacts(dataset="veri", task="t2t", track_unit="passage", definition="paper", cameras="other")
        >>> facts.in_words()
        ('dataset veri', 'task t2t', 'track unit passage', 'definition paper', 'cameras other')
        >>> facts.difference(RankingFacts(dataset="veri", task="i2t"))
        'its task is t2t, not i2t'
    """

    dataset: str | None = fact(None, "dataset")
    task: Task | None = fact(None, "task")
    track_unit: TrackUnit | None = fact(
        None, "track unit", usual="none", text=lambda facts: "none" if facts.task == "i2i" else facts.track_unit
    )
    definition: Definition | None = fact(None, "definition")
    metric: str | None = fact(None, "metric", about="metric", text=lambda facts: facts.metric_name)
    alpha: float | None = fact(None, about="metric")
    fusion: tuple[str, ...] | None = fact(
        None, "fused", usual="no", about="metric", text=lambda facts: " + ".join(facts.fusion or ("no",))
    )
    cameras: str = fact("all", "cameras", usual="all")
    rerank: Mapping[str, int | float] | None = fact(
        None, "re-ranking", usual="none", text=lambda facts: _numbers(facts.rerank)
    )
    query_source: str | None = fact(None)
    query_identity: Mapping[str, str] | None = fact(None, about="network")
    gallery_identity: Mapping[str, str] | None = fact(
        None, "architecture", about="network", text=lambda facts: facts.architecture
    )
    query_version: str | None = fact(None, about="query")
    gallery_version: str | None = fact(None, about="query")
    weights: str | None = fact(None, "weights", about="network")
    precision: str | None = fact(None, "precision", usual="fp32", text=lambda facts: facts.precision or "fp32")
    trial: int | None = fact(None, "trial", usual="none", about="trial", text=lambda facts: _trial(facts))
    trial_seed: int | None = fact(None)
    coverage: Coverage = fact("full", "lists", usual="every item", text=lambda facts: _listed(facts))
    candidates: int | None = fact(
        None, "candidates", usual="every item", text=lambda facts: facts.candidates or "every item"
    )
    top_k: int | None = fact(None)
    threshold: float | None = fact(None)
    min_probability: float | None = fact(None)
    no_match: bool = fact(False)
    gallery_size: int = fact(0, about="size")
    query_count: int | None = fact(None, about="size")
    query_lengths: Mapping[str, int] = fact(dict, about="query")
    selves: Mapping[str, tuple[str, ...]] = fact(dict, about="query")
    prior: float | None = fact(
        None, "probability", usual="none", about="probability", text=lambda facts: _probability(facts)
    )
    calibration: Calibration | None = fact(None, about="query")

    @classmethod
    def declared(cls, *about: About) -> dict[str, Fact]:
        """The facts by name; only those about some things, where they are named."""
        found = {one.name: one.metadata["fact"] for one in fields(cls)}
        return {name: one for name, one in found.items() if not about or one.about in about}

    def text(self, name: str) -> str:
        """One fact in words, ``unknown`` where it is not known."""
        one = self.declared()[name]
        value = getattr(self, name) if one.text is None else one.text(self)
        return "unknown" if value is None else str(value)

    def in_words(self) -> tuple[str, ...]:
        """How the ranking was made, but for network and metric: what every page and sheet has to say."""
        said = said_of([self], self.declared("setting", "trial", "probability"))
        return said if self.calibrated_by is None else (*said, f"calibration {self.calibrated_by}")

    def to_dict(self) -> dict[str, Any]:
        """The facts about the ranking as a whole, fit for JSON; None where one is not known."""
        return {name: _plain(getattr(self, name)) for name, one in self.declared().items() if one.about != "query"}

    def to_stored(self) -> dict[str, Any]:
        """All facts that are known, fit for JSON, as files keep them."""
        values = {name: _plain(getattr(self, name)) for name in self.declared()}
        return {name: value for name, value in values.items() if value is not None}

    @classmethod
    def from_stored(cls, values: Mapping[str, Any]) -> Self:
        """Read back what :meth:`to_stored` gave; unknown names are left out.

        Raises:
            ValueError: A value is not what it should be; the message names the fact.
        """
        known = {name: values[name] for name in cls.declared() if name in values}
        try:
            facts: Self = adapter_of(cls).validate_python(known)
        except ValidationError as error:
            first = error.errors()[0]
            raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
        return facts

    def to_metadata(self) -> dict[str, str]:
        """The known facts as metadata of a table: text as it is, everything else as JSON."""
        return {
            name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=dict)
            for name, value in self.to_stored().items()
        }

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> Self:
        """Read back what :meth:`to_metadata` gave.

        Raises:
            ValueError: A value is not what it should be.
        """
        text, declared = _text_names(adapter_of(cls)), cls.declared()
        return cls.from_stored(
            {name: value if name in text else json.loads(value) for name, value in metadata.items() if name in declared}
        )

    def difference(self, wanted: RankingFacts) -> str | None:
        """The first fact by which this ranking differs from another, in words; None if there is none."""
        for name in self.declared("setting", "size", "network", "metric", "trial"):
            there, here = getattr(self, name), getattr(wanted, name)
            if there == here:
                continue
            words = name.replace("_", " ")
            # Identities are long tables of digests: that they differ says enough.
            if isinstance(there, Mapping) or isinstance(here, Mapping):
                return f"its {words} is another"
            there, here = ("none" if value is None else value for value in (there, here))
            return f"its {words} is {there}, not {here}"
        return None

    @property
    def metric_name(self) -> str | None:
        """The metric with the number that belongs to it, as ``RSCR, α 1``."""
        return self.metric if self.metric is None or self.alpha is None else f"{self.metric}, α {self.alpha:g}"

    @property
    def calibrated_by(self) -> str | None:
        """Where the calibration was read from that gives distances probabilities; None for none, or one in memory."""
        return None if self.calibration is None else self.calibration.source

    @property
    def identity(self) -> Mapping[str, str] | None:
        """What made the features; None where that is unknown."""
        return self.gallery_identity or self.query_identity

    @property
    def architecture(self) -> str | None:
        """The network's architecture."""
        return (self.identity or {}).get("architecture")

    def misfit(self, calibration: Calibration) -> str | None:
        """The first fact by which a calibration was made for other rankings, in words; None where it fits."""
        return calibration.misfit(vars(self), self.identity)

    def with_probabilities(self, calibration: Calibration, *, expected: float | None = None) -> RankingFacts:
        """The same ranking, whose distances have probabilities.

        Args:
            calibration: What gives them.
            expected: Gallery items that show a query's vehicle; None for as many as the calibration says.
        """
        prior = calibration.prior(gallery_size=self.gallery_size, expected=expected)
        return replace(self, calibration=calibration, prior=prior)

    def probability(self, distance: Float32Array) -> Float32Array | None:
        """(R,) probability of the same vehicle at each distance, NaN for no match; None where no calibration fits."""
        if self.calibration is None or self.prior is None:
            return None
        found = self.calibration.probability(distance, prior=self.prior)
        return np.where(np.isinf(distance), np.nan, found).astype(np.float32)

    @property
    def meaningless(self) -> bool:
        """Whether random weights made the features, so that nothing follows from the ranking."""
        return self.weights == RANDOM_WEIGHTS


def said_of(rankings: Iterable[RankingFacts], names: Iterable[str] | None = None) -> tuple[str, ...]:
    """What is to be said of some rankings together: each fact with all its texts, unless they are the usual one.

    Args:
        rankings: How they were made.
        names: The facts; by default the settings.

    Examples:
        >>> said_of([RankingFacts(task="t2t"), RankingFacts(task="i2t")], ["dataset", "task", "cameras"])
        ('dataset unknown', 'task t2t/i2t')
    """
    listed, said = list(rankings), []
    declared = type(listed[0]).declared()
    for name in names if names is not None else type(listed[0]).declared("setting"):
        texts = list(dict.fromkeys(facts.text(name) for facts in listed))
        if declared[name].heading is not None and texts != [declared[name].usual]:
            said.append(f"{declared[name].heading} {'/'.join(texts)}")
    return tuple(said)


@cache
def _text_names(facts: TypeAdapter[Any]) -> frozenset[str]:
    """Fields that hold text and nothing else."""
    schemas = facts.json_schema()["properties"].items()
    kinds = {name: {one.get("type") for one in schema.get("anyOf", [schema])} for name, schema in schemas}
    return frozenset(name for name, kind in kinds.items() if kind <= {"string", "null"})


def _plain(value: Any) -> Any:
    if isinstance(value, Calibration):
        return value.to_dict()
    return dict(value) if isinstance(value, Mapping) else value


def _numbers(values: Mapping[str, int | float] | None) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in (values or {}).items()) or "none"


def _trial(facts: RankingFacts) -> str:
    return "none" if facts.trial is None else f"{facts.trial} (seed {facts.trial_seed})"


def _probability(facts: RankingFacts) -> str:
    if facts.prior is None or facts.calibration is None:
        return "none"
    return f"of the same vehicle, if {facts.prior * facts.gallery_size:.3g} of {facts.gallery_size:,} show it"


def _listed(facts: RankingFacts) -> str:
    if facts.coverage == "full":
        return "every item"
    top_k = facts.candidates if facts.top_k is None else facts.top_k
    nearest = [f"the {top_k:,} nearest"] if top_k is not None else []
    within = [f"what is no farther than {facts.threshold:g}"] if facts.threshold is not None else []
    if facts.min_probability is not None:
        within = [f"what has a probability of at least {facts.min_probability:g}"]
    vehicle = " and the query's vehicle" if facts.coverage == "positives" else ""
    return f"only {' of '.join([*nearest, *within]) or 'some items'}{vehicle}"


def choose_fitting(calibrations: Sequence[Calibration], rankings: Sequence[RankingFacts]) -> dict[str, Calibration]:
    """The calibration that fits each ranking, by its metric: the first, where several do.

    Raises:
        DataError: One fits none of them; the message says why.
    """
    found: dict[str, Calibration] = {}
    for calibration in calibrations:
        misfits = {str(facts.metric): facts.misfit(calibration) for facts in rankings}
        if None not in misfits.values():
            own = misfits.get(str(calibration.metric)) or next(iter(misfits.values()))
            raise DataError(
                f"a calibration of {calibration.metric} does not fit: {own}",
                hint="a calibration holds for the features, task, metric and definition that it was fitted on",
            )
        for metric, misfit in misfits.items():
            if misfit is None:
                found.setdefault(metric, calibration)
    return found


@dataclass(frozen=True, eq=False)
class RankingBlock:
    """Whole ranked lists of consecutive queries, one row a listed gallery item, nearest first.

    Attributes:
        query_index: (R,) int32 position of the query in the ranking, rising.
        rank: (R,) int32, 1-based, rising within a query; gaps where items are not listed.
        gallery_index: (R,) int32 position of the gallery item.
        distance: (R,) float32.
    """

    query_index: Int32Array
    rank: Int32Array
    gallery_index: Int32Array
    distance: Float32Array

    @classmethod
    def joined(cls, blocks: Iterable[RankingBlock]) -> RankingBlock:
        """The rows of some blocks, one block after the other."""
        return cls(*map(np.concatenate, zip(*(vars(block).values() for block in blocks), strict=True)))

    def select(self, rows: BoolArray | Int64Array | slice) -> RankingBlock:
        """Some of the rows."""
        return RankingBlock(*(column[rows] for column in vars(self).values()))


#: Takes the lists of some queries, which follow those before: what a ranking is written with.
BlockWriter = Callable[[RankingBlock], None]


@dataclass(frozen=True, eq=False)
class Ranking:
    """A ranking in memory or in a file: facts, the labelled items of both sides, and the ranked lists in blocks.

    Attributes:
        facts: How it was made.
        queries: The queries. A file holds only those that list something.
        gallery: The gallery items, in any order. A file holds only those that are listed.
        blocks: The lists. They can be gone through any number of times; from a file they come piece by piece.
        warnings: What is doubtful about it.
        source: Where it comes from, for messages.
    """

    facts: RankingFacts
    queries: Items
    gallery: Items
    blocks: Iterable[RankingBlock]
    warnings: tuple[str, ...] = ()
    source: str = "memory"


@dataclass(frozen=True, slots=True)
class RankedItem:
    """One row of a ranking, for showing it."""

    query_id: str
    query_vehicle: str | None
    query_camera: str | None
    rank: int
    gallery_id: str
    gallery_vehicle: str | None
    gallery_camera: str | None
    distance: float
    probability: float | None = None

    @property
    def same_vehicle(self) -> bool | None:
        """Whether it shows the query's vehicle; None where a label is missing."""
        unknown = self.query_vehicle is None or self.gallery_vehicle is None
        return None if unknown else self.query_vehicle == self.gallery_vehicle
