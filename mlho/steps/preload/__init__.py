"""Modules that a fork server of worker processes imports, so that its children inherit the imports of the steps: as a whole, or in two parts."""
