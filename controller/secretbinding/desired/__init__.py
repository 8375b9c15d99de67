"""What a workload should be, computed from all its bindings together."""

from secretbinding.desired.compute import desire
from secretbinding.desired.values import BindingInput, BindingResult, Desired, Observed, Policy

__all__ = ["BindingInput", "BindingResult", "Desired", "Observed", "Policy", "desire"]
