"""Program 1: splits a run into tasks and brings them home."""
