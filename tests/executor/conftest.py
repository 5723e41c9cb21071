"""A cluster of two nodes on this machine, and a project in front of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from executor.projects import HEAD, NODE, Project, search_path


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """The cluster, and those of its two nodes that may be killed: not the head."""
    pytest.importorskip("ray", reason="ray is not installed: pip install 'pytest-ftcheck[ray]', or tox run -e ray")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        # What a process of a node inherits; its own copy of the project it gets from Ray.
        patch.setenv("PYTHONPATH", search_path())
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        # Ray gives way to everything else on its machine: on one that is shared a second then takes minutes.
        patch.setenv("RAY_worker_niceness", "0")
        patch.delenv("RAY_ADDRESS", raising=False)
        started = Cluster(initialize_head=True, head_node_args=HEAD)
        yield started, [started.add_node(**NODE)]
        started.shutdown()


@pytest.fixture
def project(tmp_path: Path, cluster: Any) -> Iterator[Project]:
    made = Project(tmp_path, cluster[0].address)
    yield made
    made.close()


@pytest.fixture
def lone_project(tmp_path: Path) -> Project:
    """One without a cluster."""
    return Project(tmp_path)
