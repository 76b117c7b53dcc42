"""Definition of the cohort from labels and demographics."""
