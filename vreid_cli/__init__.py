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
    from vreid_cli.evaluation.judge import evaluate_ranking as evaluate
    from vreid_cli.evaluation.matrix import evaluate_distances
    from vreid_cli.evaluation.scores import Evaluation
    from vreid_cli.ranking.rank import RankingOptions, rank
    from vreid_cli.ranking.reranking import RerankOptions
    from vreid_cli.ranking.trials import split_trial
    from vreid_cli.types.features import FeatureSet
    from vreid_cli.types.rankings import Ranking
    from vreid_cli.workflows.notebook import read_features

__version__ = "0.1.0"

__all__ = [
    "Evaluation",
    "FeatureSet",
    "Ranking",
    "RankingOptions",
    "RerankOptions",
    "evaluate",
    "evaluate_distances",
    "rank",
    "read_features",
    "split_trial",
]

_HOMES = {
    "Evaluation": "vreid_cli.evaluation.scores:Evaluation",
    "FeatureSet": "vreid_cli.types.features:FeatureSet",
    "Ranking": "vreid_cli.types.rankings:Ranking",
    "RankingOptions": "vreid_cli.ranking.rank:RankingOptions",
    "RerankOptions": "vreid_cli.ranking.reranking:RerankOptions",
    "evaluate": "vreid_cli.evaluation.judge:evaluate_ranking",
    "evaluate_distances": "vreid_cli.evaluation.matrix:evaluate_distances",
    "rank": "vreid_cli.ranking.rank:rank",
    "read_features": "vreid_cli.workflows.notebook:read_features",
    "split_trial": "vreid_cli.ranking.trials:split_trial",
}


def __getattr__(name: str) -> Any:
    # Looked up on first use: importing the package must not import torch, or `vreid --help` would take seconds.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return load(_HOMES[name])
