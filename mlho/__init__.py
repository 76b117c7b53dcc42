"""Machine Learning for Health Outcomes: the method, the tables, the specification, the store and the steps."""

__version__ = "0.1.0"
