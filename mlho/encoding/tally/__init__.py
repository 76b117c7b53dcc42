"""Counts of the used rows for the checks of data quality, collected while a partition is encoded."""
