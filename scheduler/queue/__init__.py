"""Carries out a run on Celery and Redis: executor, leases, executions, leadership, workers of this machine."""
