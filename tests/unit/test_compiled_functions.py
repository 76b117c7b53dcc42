"""Rules for functions that numba compiles and caches."""

import ast
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def test_compiled_functions_sort_numbers_by_argsort_only():
    """No compiled function calls ``sort``, except for hashes, which no compiled function sorts with ``argsort``.

    Numba names its quicksort of an array by the type of the array and a counter of the process, and not by whether it returns
    positions. Two functions of one process that were loaded from the cache, and compiled in different processes, can thus call each
    other's quicksort: the result is wrong, or the process crashes.
    """
    sorting = [
        (str(path.relative_to(REPOSITORY)), function.name)
        for path in sorted((REPOSITORY / "mlho").rglob("*.py"))
        for function in ast.walk(ast.parse(path.read_text()))
        if isinstance(function, ast.FunctionDef)
        and any("njit" in ast.unparse(decorator) for decorator in function.decorator_list)
        and any(
            isinstance(node, ast.Attribute)
            and node.attr in ("sort", "partition", "median", "percentile", "unique")
            for node in ast.walk(function)
        )
    ]

    assert sorting == [("mlho/training/checks/twins.py", "_sort_rows")]
