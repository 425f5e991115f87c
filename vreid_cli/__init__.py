"""Vehicle re-identification: rank the tracks of other cameras in the latent space of a CNN.

In a notebook, with a folder of images per track below ``tracks/query`` and ``tracks/gallery``::

    import vreid_cli as vreid

    network = vreid.load_network("imagenet", arch="densenet201")
    query = vreid.extract("tracks/query", network)
    gallery = vreid.extract("tracks/gallery", network)
    ranking = vreid.rank(query, gallery, vreid.RankingOptions(metric="minMCD"))["minMCD"]
    scores = vreid.evaluate(ranking)  # where names tell vehicle and camera, as 0002_c001 does
    print(scores.mean_ap, scores.warnings)
    sheet = vreid.show(ranking, query=query, gallery=gallery)
    sheet  # a notebook displays it; sheet.save("nearest.png") keeps it

Data sets, features and rankings from files, and comparisons: ``read_images``, ``read_features``, ``read_ranking``,
``compare``. Galleries that do not fit: ``build_index``.
Each step gives what the command of the same name gives.
"""

from __future__ import annotations

#: What type checkers take to be true. The program begins here, and until it can meet Ctrl-C nothing more is imported.
TYPE_CHECKING = False
#: Where each name of the library stands: a name is added here and, for type checkers, below.
_HOMES = {
    "AssociationOptions": "vreid_cli.association.options:AssociationOptions",
    "Calibration": "vreid_cli.types.calibrations:Calibration",
    "CalibrationOptions": "vreid_cli.evaluation.options:CalibrationOptions",
    "Clock": "vreid_cli.types.identities:Clock",
    "DownloadOptions": "vreid_cli.models.options:DownloadOptions",
    "Evaluation": "vreid_cli.evaluation.evaluate:Evaluation",
    "EvaluationOptions": "vreid_cli.evaluation.options:EvaluationOptions",
    "ExtractionOptions": "vreid_cli.extraction.options:ExtractionOptions",
    "FeatureSet": "vreid_cli.types.features:FeatureSet",
    "GroundTruth": "vreid_cli.types.truth:GroundTruth",
    "ImageIndex": "vreid_cli.store.image_index:ImageIndex",
    "IndexOptions": "vreid_cli.store.options:IndexOptions",
    "Identities": "vreid_cli.types.identities:Identities",
    "LoadedNetwork": "vreid_cli.models.weights:LoadedNetwork",
    "PairView": "vreid_cli.reports.pairs:PairView",
    "Ranking": "vreid_cli.types.rankings:Ranking",
    "RankingOptions": "vreid_cli.ranking.options:RankingOptions",
    "ReportPage": "vreid_cli.reports.pages.report:ReportPage",
    "ReviewedPairs": "vreid_cli.types.truth:ReviewedPairs",
    "RuntimeOptions": "vreid_cli.runtime.options:RuntimeOptions",
    "Sheet": "vreid_cli.reports.sheets.sheet:Sheet",
    "ShowOptions": "vreid_cli.reports.options:ShowOptions",
    "TrainingOptions": "vreid_cli.training.options:TrainingOptions",
    "TrainingResult": "vreid_cli.training.train:TrainingResult",
    "TravelWindow": "vreid_cli.types.identities:TravelWindow",
    "Validation": "vreid_cli.workflows.validation:Validation",
    "associate": "vreid_cli.association.associate:associate",
    "build_index": "vreid_cli.store.image_index:build_index",
    "calibrate": "vreid_cli.evaluation.calibrate:calibrate",
    "compare": "vreid_cli.evaluation.comparison:compare",
    "evaluate": "vreid_cli.evaluation.evaluate:evaluate",
    "evaluate_distances": "vreid_cli.evaluation.matrix:evaluate_distances",
    "evaluate_identities": "vreid_cli.evaluation.identities:evaluate_identities",
    "explain": "vreid_cli.reports.pairs:explain",
    "extract": "vreid_cli.extraction.extract:extract",
    "extract_detections": "vreid_cli.extraction.detections:extract_detections",
    "fuse": "vreid_cli.evaluation.fusion:fuse",
    "load_network": "vreid_cli.models.weights:load_network",
    "rank": "vreid_cli.ranking.rank:rank",
    "read_features": "vreid_cli.store.formats:read_features",
    "read_identities": "vreid_cli.store.identities:read_identities",
    "read_images": "vreid_cli.data.layouts:read_images",
    "read_ranking": "vreid_cli.store.formats:read_ranking",
    "read_review": "vreid_cli.store.review:read_review",
    "report": "vreid_cli.reports.pages.report:report",
    "show": "vreid_cli.reports.show:show",
    "split_trial": "vreid_cli.ranking.trials:split_trial",
    "train": "vreid_cli.training.train:train",
}

__all__ = sorted(_HOMES)

if TYPE_CHECKING:
    from vreid_cli.association.associate import associate as associate
    from vreid_cli.association.options import AssociationOptions as AssociationOptions
    from vreid_cli.data.layouts import read_images as read_images
    from vreid_cli.evaluation.calibrate import calibrate as calibrate
    from vreid_cli.evaluation.comparison import compare as compare
    from vreid_cli.evaluation.evaluate import Evaluation as Evaluation
    from vreid_cli.evaluation.evaluate import evaluate as evaluate
    from vreid_cli.evaluation.fusion import fuse as fuse
    from vreid_cli.evaluation.identities import evaluate_identities as evaluate_identities
    from vreid_cli.evaluation.matrix import evaluate_distances as evaluate_distances
    from vreid_cli.evaluation.options import CalibrationOptions as CalibrationOptions
    from vreid_cli.evaluation.options import EvaluationOptions as EvaluationOptions
    from vreid_cli.extraction.detections import extract_detections as extract_detections
    from vreid_cli.extraction.extract import extract as extract
    from vreid_cli.extraction.options import ExtractionOptions as ExtractionOptions
    from vreid_cli.models.options import DownloadOptions as DownloadOptions
    from vreid_cli.models.weights import LoadedNetwork as LoadedNetwork
    from vreid_cli.models.weights import load_network as load_network
    from vreid_cli.ranking.options import RankingOptions as RankingOptions
    from vreid_cli.ranking.rank import rank as rank
    from vreid_cli.ranking.trials import split_trial as split_trial
    from vreid_cli.reports.options import ShowOptions as ShowOptions
    from vreid_cli.reports.pages.report import ReportPage as ReportPage
    from vreid_cli.reports.pages.report import report as report
    from vreid_cli.reports.pairs import PairView as PairView
    from vreid_cli.reports.pairs import explain as explain
    from vreid_cli.reports.sheets.sheet import Sheet as Sheet
    from vreid_cli.reports.show import show as show
    from vreid_cli.runtime.options import RuntimeOptions as RuntimeOptions
    from vreid_cli.store.formats import read_features as read_features
    from vreid_cli.store.formats import read_ranking as read_ranking
    from vreid_cli.store.identities import read_identities as read_identities
    from vreid_cli.store.image_index import ImageIndex as ImageIndex
    from vreid_cli.store.image_index import build_index as build_index
    from vreid_cli.store.options import IndexOptions as IndexOptions
    from vreid_cli.store.review import read_review as read_review
    from vreid_cli.training.options import TrainingOptions as TrainingOptions
    from vreid_cli.training.train import TrainingResult as TrainingResult
    from vreid_cli.training.train import train as train
    from vreid_cli.types.calibrations import Calibration as Calibration
    from vreid_cli.types.features import FeatureSet as FeatureSet
    from vreid_cli.types.identities import Clock as Clock
    from vreid_cli.types.identities import Identities as Identities
    from vreid_cli.types.identities import TravelWindow as TravelWindow
    from vreid_cli.types.rankings import Ranking as Ranking
    from vreid_cli.types.truth import GroundTruth as GroundTruth
    from vreid_cli.types.truth import ReviewedPairs as ReviewedPairs
    from vreid_cli.workflows.validation import Validation as Validation

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    # Looked up on first use: importing the package must not import torch, or `vreid --help` would take seconds.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from vreid_cli.types.lazy import load

    return load(_HOMES[name])


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
