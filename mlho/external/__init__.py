"""Computations of commands, outside of runs: a bundle on labelled data that it was not trained on, and the comparison of two runs."""
