"""Detection against a real OpenBao."""
