"""Computations on fitted trees, for any library that made them."""
