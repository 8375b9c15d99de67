"""One suite for the simulator and a real Nomad: what the project relies on, and where both must agree."""
