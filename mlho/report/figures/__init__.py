"""Figures of a result: a chart with its numbers and a reading guide."""
