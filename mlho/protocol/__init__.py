"""The contract between scheduler and workers: messages, names, scripts and failure classes.

Independent of queue libraries.
"""
