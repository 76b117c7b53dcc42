"""The status of model channels in a cluster, read from the store."""
