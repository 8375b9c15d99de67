"""Long runs on a real Nomad and a real OpenBao: `make soak-survival`. Not part of `make test`."""
