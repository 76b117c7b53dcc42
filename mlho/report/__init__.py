"""The report, its figures and its numbers."""
