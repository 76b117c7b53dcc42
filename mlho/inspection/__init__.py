"""Inspection of tables before a run, by headers, small tables and samples: facts, errors that would stop the run, and warnings."""
