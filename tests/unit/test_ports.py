"""The servers of tests that run side by side have ports of their own."""

import multiprocessing

from tests.ports import free_port


def _free_ports(n: int) -> list[int]:
    return [free_port() for _ in range(n)]


def test_processes_that_choose_ports_at_once_choose_different_ones() -> None:
    """Between the choice of a port and the start of its server, the same port is not chosen again."""
    with multiprocessing.get_context("fork").Pool(4) as pool:
        chosen = [port for ports in pool.map(_free_ports, [25] * 8, chunksize=1) for port in ports]

    assert len(set(chosen)) == 200
