"""Tests of the decisions by policies."""
