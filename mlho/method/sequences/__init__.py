"""Transitive sequences: ordered pairs of codes of one sample, without listing the pairs of events."""
