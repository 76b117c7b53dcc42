"""Checks before training: leakage and the quality of the data."""
