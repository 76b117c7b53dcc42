"""Who is in the cohort, from labels and demographics."""
