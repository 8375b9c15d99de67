"""The main job, shown on real servers: a secret reaches a Nomad job, rotates, rolls, and rolls back."""

from secretbinding.devstack.demo.story import main

__all__ = ["main"]
