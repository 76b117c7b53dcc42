"""Figures of a result: one picture with its numbers and its reading."""
