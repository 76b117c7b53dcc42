"""Program 1: splits a run into tasks and collects their results."""
