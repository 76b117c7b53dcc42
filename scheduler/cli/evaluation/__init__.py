"""Commands that evaluate and compare: evaluate, compare."""
