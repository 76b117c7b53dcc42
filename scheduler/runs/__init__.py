"""The runs of a store: their records, their names, and what they use."""
