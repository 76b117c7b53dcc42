"""Conversion of event rows to packed blocks: ledger, dictionary, matrix."""
