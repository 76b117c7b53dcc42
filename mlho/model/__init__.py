"""The bundle: a model with all that it needs to be used and tested."""
