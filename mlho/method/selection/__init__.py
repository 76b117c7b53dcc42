"""Which features to learn from: prevalence screen, then joint mutual information."""
