"""Computations on fitted trees from any library."""
