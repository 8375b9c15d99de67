"""Nomad: the adapter that fulfils `ports.Nomad` with python-nomad's API classes over the lean transport."""

from secretbinding.adapters.nomad.adapter import NomadAdapter
from secretbinding.adapters.nomad.events import EventStream

__all__ = ["EventStream", "NomadAdapter"]
