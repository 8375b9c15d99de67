"""A small Kubernetes API server for tests, faithful where controllers depend on it."""

from tests.support.apiserver.faults import Request
from tests.support.apiserver.schema import Fault
from tests.support.apiserver.server import TEST_AGENT, ApiServer

__all__ = ["TEST_AGENT", "ApiServer", "Fault", "Request"]
