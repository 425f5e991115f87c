"""Vehicle re-identification: rank the tracks of other cameras in the latent space of a CNN.

For notebooks::

    import vreid_cli as vreid

    query = vreid.read_features("feat_query.json")
    gallery = vreid.read_features("feat_test.json")
    rankings = vreid.rank(query, gallery, vreid.RankingOptions(metrics=("meanMCD50",)))
    print(vreid.evaluate(rankings["meanMCD50"]).mean_ap)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vreid_cli.types.lazy import load

if TYPE_CHECKING:
    from vreid_cli.evaluation.comparison import compare
    from vreid_cli.evaluation.evaluate import Evaluation, evaluate
    from vreid_cli.evaluation.matrix import evaluate_distances
    from vreid_cli.evaluation.options import EvaluationOptions
    from vreid_cli.ranking.rank import RankingOptions, rank
    from vreid_cli.ranking.reranking import RerankOptions
    from vreid_cli.ranking.trials import split_trial
    from vreid_cli.reports.options import ShowOptions
    from vreid_cli.reports.sheets.sheet import Sheet
    from vreid_cli.reports.show import show
    from vreid_cli.store.formats import read_features, read_ranking
    from vreid_cli.types.features import FeatureSet
    from vreid_cli.types.rankings import Ranking
    from vreid_cli.types.truth import GroundTruth

__version__ = "0.1.0"

__all__ = [
    "Evaluation",
    "EvaluationOptions",
    "FeatureSet",
    "GroundTruth",
    "Ranking",
    "RankingOptions",
    "RerankOptions",
    "Sheet",
    "ShowOptions",
    "compare",
    "evaluate",
    "evaluate_distances",
    "rank",
    "read_features",
    "read_ranking",
    "show",
    "split_trial",
]

_HOMES = {
    "Evaluation": "vreid_cli.evaluation.evaluate:Evaluation",
    "EvaluationOptions": "vreid_cli.evaluation.options:EvaluationOptions",
    "FeatureSet": "vreid_cli.types.features:FeatureSet",
    "GroundTruth": "vreid_cli.types.truth:GroundTruth",
    "Ranking": "vreid_cli.types.rankings:Ranking",
    "RankingOptions": "vreid_cli.ranking.rank:RankingOptions",
    "RerankOptions": "vreid_cli.ranking.reranking:RerankOptions",
    "Sheet": "vreid_cli.reports.sheets.sheet:Sheet",
    "ShowOptions": "vreid_cli.reports.options:ShowOptions",
    "compare": "vreid_cli.evaluation.comparison:compare",
    "evaluate": "vreid_cli.evaluation.evaluate:evaluate",
    "evaluate_distances": "vreid_cli.evaluation.matrix:evaluate_distances",
    "rank": "vreid_cli.ranking.rank:rank",
    "read_features": "vreid_cli.store.formats:read_features",
    "read_ranking": "vreid_cli.store.formats:read_ranking",
    "show": "vreid_cli.reports.show:show",
    "split_trial": "vreid_cli.ranking.trials:split_trial",
}


def __getattr__(name: str) -> Any:
    # Looked up on first use: importing the package must not import torch, or `vreid --help` would take seconds.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return load(_HOMES[name])
