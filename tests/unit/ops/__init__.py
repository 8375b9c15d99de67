"""Decisions of `bootstrap` and `doctor`, without a server."""
