"""Tests of the Kubernetes side, against a small API server and a real one."""
