"""Modules that a fork server of worker processes imports, so that its children inherit what steps need: all, or all in two parts."""
