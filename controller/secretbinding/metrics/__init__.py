"""Prometheus metrics and health checks of the controller: what is counted, and the server that shows it."""

from secretbinding.metrics.monitoring import Monitoring
from secretbinding.metrics.parts import Parts, Servers, Unit

__all__ = ["Monitoring", "Parts", "Servers", "Unit"]
