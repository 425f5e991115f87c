"""A Ray cluster on this machine: nodes of one core each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

NODE = {"num_cpus": 1, "num_gpus": 0, "object_store_memory": 80 << 20, "include_dashboard": False}


@contextmanager
def cluster(nodes: int = 2) -> Iterator[Any]:
    """So many nodes; the first one holds the cluster together and must stay."""
    from ray.cluster_utils import Cluster

    made = Cluster()
    try:
        # How full the disk of the machine is that tests run on is none of their business.
        made.add_node(**NODE, _system_config={"local_fs_capacity_threshold": 1.0})
        for _ in range(nodes - 1):
            add_node(made)
        yield made
    finally:
        made.shutdown()


def add_node(made: Any) -> None:
    """One more node."""
    made.add_node(**NODE)
