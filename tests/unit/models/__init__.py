"""Tests of the model: reading, checking and explaining manifests."""
