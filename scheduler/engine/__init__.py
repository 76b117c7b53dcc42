"""Execution of a run on any backend: plan, ready tasks, run loop, process pool."""
