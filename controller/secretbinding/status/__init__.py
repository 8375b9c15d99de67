"""What is reported of a binding: conditions, versions, and the transitions worth an event. Pure decisions."""

from secretbinding.status.compute import Requests, compute_status
from secretbinding.status.faults import fault_of
from secretbinding.status.transitions import Transition, transitions
from secretbinding.status.view import Pass

__all__ = ["Pass", "Requests", "Transition", "compute_status", "fault_of", "transitions"]
