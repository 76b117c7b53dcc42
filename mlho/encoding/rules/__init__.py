"""Cohorts by rule: events that rules mention, and from them entries, index dates, criteria and outcomes."""
