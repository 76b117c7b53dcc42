"""Integer counts of the used rows for the checks of data quality, made while a partition is encoded."""
