"""Measurements: scripts that print a table, no tests."""
