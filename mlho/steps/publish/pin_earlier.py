"""Step: the artifacts of an earlier run with which the report compares. The process that starts the run names them; a worker cannot."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final

from mlho.errors import SpecError
from mlho.steps.base import Artifact, Step, Work

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mlho.external.comparison import RunFacts

SCORES: Final = "scores/"  # before the number of an iteration


class PinEarlier(Step):
    """Identify the earlier run. Its commit record is written when the run starts, so that this step never runs."""

    kind: ClassVar[str] = "pin_earlier"

    def run(self, work: Work) -> dict[str, Any]:
        """Raise an error: the artifacts of the earlier run are missing in the store."""
        raise SpecError(
            f"compareWith: the artifacts of run {work.params['run']} are no longer complete in the store. Run its specification again, or "
            "leave out compareWith."
        )


def scores_of(artifact: Artifact) -> "Iterable[Mapping[str, NDArray[Any]]]":
    """Yield the test samples of each iteration with their probabilities, always in the same order."""
    from mlho.arrays import read_arrays

    return (read_arrays(artifact.path(name)) for name in artifact.names if name.startswith(SCORES))


def facts_of(artifact: Artifact, result: Mapping[str, Any], *, run: str, name: str) -> "RunFacts":
    """Read the compared parts of a finished run.

    Parameters
    ----------
    artifact : Artifact
        ``cohort.arr``, ``dictionary.arr`` and ``scores/…``, one file for each iteration.
    result : mapping
        ``result.json``.
    """
    from mlho.encoding.cohort.cohort import Cohort
    from mlho.encoding.events.dictionary import Dictionary
    from mlho.external.comparison import RunFacts, final_tests
    from mlho.report.digest import result_digest
    from mlho.report.result import Result

    checked_result = Result.model_validate(result)
    cohort = Cohort.read(artifact.path("cohort.arr"))
    return RunFacts(
        run=run,
        name=name,
        result_digest=result_digest(result),
        result=checked_result,
        cohort=cohort,
        dictionary=Dictionary.read(artifact.path("dictionary.arr")),
        tests=final_tests(checked_result, scores_of(artifact)),
    )
