"""Gathers the facts: reads only, from both servers and from what was given. Nothing here judges."""

from secretbinding.ops.doctor.gathering.gather import Given, Reach, gather

__all__ = ["Given", "Reach", "gather"]
