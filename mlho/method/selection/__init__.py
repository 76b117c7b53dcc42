"""Feature selection: prevalence screen, then joint mutual information."""
