"""The registry: models of a store, and their promotion to channels."""
