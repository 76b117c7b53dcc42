"""From events to the matrix: the cohort, the ledger, the dictionary and the packed blocks."""
