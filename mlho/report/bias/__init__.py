"""Performance by group and period in results."""
