"""Bytes of any kind for everything that reads what comes from outside."""
