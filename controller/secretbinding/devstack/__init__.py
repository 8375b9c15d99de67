"""Servers for the demo and the tests: a real OpenBao, a real Nomad agent, and a simulator of Nomad."""
