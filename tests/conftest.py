"""Makes the shared fixtures known to all tests. Property tests are the same on a slow machine: no deadline for one
example, and the same examples on every run but those of `make fuzz`."""

import pytest
from hypothesis import HealthCheck, settings

from tests.support.browser import chromium
from tests.support.fuzzing import FACTOR, cases
from tests.support.kubernetes import kubernetes_api, real_kubernetes, small_kubernetes, tenant
from tests.support.leftovers import swept
from tests.support.postgres import postgres
from tests.support.servers import (
    cluster,
    cluster_nomad,
    cluster_simulator,
    open_nomad,
    open_simulator,
    open_stack,
    openbao,
    real_nomad,
    simulator,
    stack,
    unique,
)

__all__ = [
    "chromium",
    "cluster",
    "cluster_nomad",
    "cluster_simulator",
    "kubernetes_api",
    "open_nomad",
    "open_simulator",
    "open_stack",
    "openbao",
    "postgres",
    "real_kubernetes",
    "real_nomad",
    "simulator",
    "small_kubernetes",
    "stack",
    "swept",
    "tenant",
    "unique",
]

settings.register_profile(
    "specification",
    deadline=None,
    derandomize=FACTOR == 1,
    max_examples=cases(60),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("specification")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of a real Kubernetes API server share one, and those of a cluster of several nodes: with several workers
    they all go to the same. First of all, so that pytest-xdist sees it."""
    for item in items:
        if item.get_closest_marker("real_kubernetes") is not None:
            item.add_marker(pytest.mark.xdist_group("kubernetes"))
        for name in ("cluster_simulator", "cluster_nomad"):
            if name in item.nodeid:
                item.add_marker(pytest.mark.xdist_group(name))
