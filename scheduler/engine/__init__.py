"""Carries out a run anywhere: plan, ready tasks, run loop, process pool."""
