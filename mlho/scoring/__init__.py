"""Scoring partitions of events with a bundle: the patients, their demographics, their scores, and the account of all rows."""
