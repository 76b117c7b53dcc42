"""Switch for reading the texts under the fields of models. Only schemas and dossiers need them, and reading takes a quarter of the import time."""

from mlho.fork_server import is_server

_are_read = not is_server()


def are_read() -> bool:
    """Return whether a model reads the texts when it is defined."""
    return _are_read


def omit() -> None:
    """Define models without texts from now on, in a program that writes no schema and no dossier."""
    global _are_read
    _are_read = False
