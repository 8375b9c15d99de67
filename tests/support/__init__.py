"""Servers and builders that tests share."""
