"""Errors: their messages, and their transfer from a worker to the command."""

import multiprocessing.connection

import pytest

from mlho import errors

DATA_ERROR = {"expected": "text", "got": "a number", "remedy": "Write text."}


def sent(error: BaseException) -> BaseException:
    """Return the error as another process receives it."""
    here, there = multiprocessing.connection.Pipe()
    with here, there:
        there.send(error)
        return here.recv()


def test_a_data_error_states_place_problem_expected_got_and_remedy():
    """A data error states place, problem, expected, got and remedy in this order, in one line."""
    error = errors.DataError("a.csv", "column 'code' is a number", **DATA_ERROR)

    assert str(error) == "a.csv: column 'code' is a number. Expected text; got a number. Write text."


@pytest.mark.parametrize("kind", [errors.DataError, errors.InputChanged])
def test_a_data_error_keeps_its_parts_across_processes(kind):
    """A data error keeps its class, message and parts in another process."""
    arrived = sent(kind("a.csv", "rule", **DATA_ERROR, policy="unknownPatients"))

    assert type(arrived) is kind
    assert (arrived.where, arrived.rule, arrived.got) == ("a.csv", "rule", "a number")
    assert arrived.policy == "unknownPatients"
    assert str(arrived) == "a.csv: rule. Expected text; got a number. Write text."


def test_a_damaged_artifact_keeps_its_digest_across_processes():
    """A damaged artifact keeps its digest in another process, because the command needs it to run the task again."""
    arrived = sent(errors.ArtifactDamaged("blob", sha256="abc"))

    assert (str(arrived), arrived.sha256, arrived.retryable) == ("blob", "abc", True)


def test_a_lost_commit_keeps_its_task_across_processes():
    """A lost commit keeps its task's key in another process, because the command needs it to run the task again."""
    arrived = sent(errors.CommitLost("commit", sha256="abc"))

    assert (str(arrived), arrived.sha256, arrived.retryable) == ("commit", "abc", True)


@pytest.mark.parametrize(
    ("kind", "builtin", "exit_code", "retryable"),
    [
        (errors.SpecError, ValueError, 2, False),
        (errors.DataError, ValueError, 3, False),
        (errors.InputChanged, ValueError, 3, False),
        (errors.BundleError, ValueError, 4, False),
        (errors.ChannelDamaged, ValueError, 1, False),
        (errors.ArtifactNotFound, LookupError, 1, False),
        (errors.ArtifactDamaged, ValueError, 1, True),
        (errors.CommitLost, errors.ArtifactNotFound, 1, True),
        (errors.StoreUnavailable, ConnectionError, 1, True),
        (errors.StoreOutage, errors.StoreUnavailable, 1, True),
        (errors.StoreAccessDenied, errors.StoreOutage, 2, True),
    ],
)
def test_an_error_has_a_builtin_parent(kind, builtin, exit_code, retryable):
    """Each error is an MlhoError and a builtin error, with its own exit code and retry behaviour."""
    assert issubclass(kind, errors.MlhoError)
    assert issubclass(kind, builtin)
    assert (kind.exit_code, kind.retryable) == (exit_code, retryable)
