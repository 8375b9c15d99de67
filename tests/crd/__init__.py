"""Tests of the CRD: generated from the model, and judging as it does."""
