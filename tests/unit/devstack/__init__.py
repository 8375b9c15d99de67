"""The development stack's own parts."""
