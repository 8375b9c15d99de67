"""The parts of the adapters that decide without a server."""
