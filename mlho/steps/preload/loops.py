"""Compiled loops for processes that a fork server starts later: loaded from numba's cache once instead of in each process."""

from contextlib import suppress
from importlib import import_module
from typing import Any

from numba.core.dispatcher import Dispatcher


def load_loops(*modules: str) -> None:
    """Load the loops of modules that numba has already compiled, for the types used then. Nothing is compiled here.

    A loop that is called by another loop is part of the calling loop.
    """
    values = (value for name in modules for value in vars(import_module(name)).values())
    loops = {value.py_func.__name__: value for value in values if isinstance(value, Dispatcher)}
    called = {name for loop in loops.values() for name in loop.py_func.__code__.co_names}
    for name in loops.keys() - called:
        _load(loops[name])


def _load(loop: Any) -> None:
    # The attributes are private, because numba has no other way to list its cache. Without them, and if the cache is damaged, the
    # process that calls the loop loads it or reports the fault.
    with suppress(Exception):
        cache, codegen = loop._cache, loop.targetctx.codegen()
        cached = cache._cache_file._load_index()
        for types, *_ in cached:
            if cache._index_key(types, codegen) in cached:  # for this code and this processor
                loop.compile(types)
