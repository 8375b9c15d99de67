"""Answers to those who ask before something is written: Nomad's admission proxy."""
