"""Scoring partitions of events with a bundle: whom, their demographics, their scores, and the account of it all."""
