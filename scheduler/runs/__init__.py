"""The runs of a store: their records, their names, and the tasks that they use."""
