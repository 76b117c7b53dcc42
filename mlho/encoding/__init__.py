"""Encoding of events as a matrix: the cohort, the ledger, the dictionary and the packed blocks."""
