"""Cohorts by rule: extract the events that rules mention, and derive entries, index dates, criteria and outcomes from them."""
