"""One scheduler process in a cluster: startup and shutdown, leader election, health endpoints, rotation of Secrets."""
