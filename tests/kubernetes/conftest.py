"""Fixtures of the Kubernetes tests."""

import time
from collections.abc import Iterator

import pytest

from secretbinding.adapters.kubernetes import KubernetesClient, KubernetesConnection
from secretbinding.sources.kubernetes import KubernetesSource, Pace
from tests.kubernetes.sink import QUICK, RecordingSink, Started
from tests.support.kubeclient import eventually
from tests.support.kubernetes import Cluster


@pytest.fixture
def started(kubernetes_api: Cluster) -> Iterator[Started]:
    """Starts sources for the test's API server and stops them at the end."""
    running: list[KubernetesSource] = []

    def start(*namespaces: str, pace: Pace = QUICK, wait: bool = True) -> tuple[KubernetesSource, RecordingSink]:
        connection = KubernetesConnection(kubeconfig=str(kubernetes_api.kubeconfig), retry_seconds=1.0)
        source = KubernetesSource(KubernetesClient(connection), namespaces, pace=pace)
        sink = RecordingSink()
        source.start(sink)
        running.append(source)
        if wait:
            eventually(lambda: source.healthy(time.monotonic()) == "", "the source is healthy")
        return source, sink

    yield start
    for source in running:
        source.stop()
