"""A scheduler process in a cluster: leader election, health over HTTP, rotated Secrets, start and end."""
