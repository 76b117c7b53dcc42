"""The command that scores: one run, one night, or a range of nights."""
