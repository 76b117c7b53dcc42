"""Inspection of tables before a run: the findings, the errors that would stop it, and the warnings. Reads headers and samples only."""
