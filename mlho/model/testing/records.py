"""A test of a model as data, and its result."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Final, Literal

from pydantic import Field, TypeAdapter, ValidationError

from mlho.errors import BundleError
from mlho.model.parts import BundlePart
from mlho.spec.training import canonical_json

TESTS_FILE: Final = "tests/tests.json"
TESTS_SCHEMA: Final = "mlho.io/bundle-tests/v1"
#: Kinds that measure the machine: they are not run where the results become part of a result.
MEASURED: Final = frozenset({"memory", "seconds"})
#: The consequence of a failure. ``defect``: the build, and all below. ``required``: scoring and promotion. ``expected``: promotion.
Level = Literal["defect", "required", "expected"]


class ModelTest(BundlePart):
    """One test. Its kind names the check; the check needs nothing but this record and the other files of the bundle."""

    id: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*(\.[^\x00-\x1f]{1,200})?$")]
    """Unique in the bundle."""
    kind: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$", max_length=64)]
    """The check: a key of :data:`mlho.model.testing.runner.CHECKS`."""
    level: Level
    """Action that a failure prevents."""
    meaning: Annotated[str, Field(min_length=1, max_length=400)]
    """Purpose of the test, in one sentence."""
    expected: Any = None
    """The expected outcome, as plain JSON."""
    tolerance: Annotated[float, Field(ge=0)] = 0.0
    """Largest accepted difference from it, in its unit."""
    inputs: dict[str, Any] = Field(default_factory=dict)
    """Input of the check. Synthetic or invented: never of a patient."""


@dataclass(frozen=True)
class ModelTestResult:
    """The outcome of one test."""

    id: str
    kind: str
    level: Level
    meaning: str
    """As in the test."""
    expected: str
    """In words."""
    tolerance: float
    passed: bool
    got: str
    """In words."""
    defect: str = ""
    """On failure, a sentence that names the defect; otherwise empty."""
    seconds: float = field(default=0.0, compare=False)
    """Time of the check; not compared."""

    @property
    def is_measured(self) -> bool:
        """Whether the test measures the machine, and is therefore not among the self-tests that are counted."""
        return self.kind in MEASURED

    def plain(self) -> dict[str, Any]:
        """Return plain values without the time, so that equal results have equal bytes."""
        return {name: value for name, value in asdict(self).items() if name != "seconds"}

    def reported(self) -> dict[str, Any]:
        """Return the test as a result and its report show it."""
        tolerance = f" ± {self.tolerance:g}" if self.tolerance else ""
        said = [
            f"Expected {self.expected}{tolerance}; got {self.got}.",
            *([self.defect] if self.defect else []),
        ]
        return {
            "name": self.id,
            "kind": self.kind,
            "level": self.level,
            "passed": self.passed,
            "meaning": self.meaning,
            "detail": " ".join(said),
        }


def written_tests(tests: Sequence[ModelTest]) -> bytes:
    """Return the file ``tests/tests.json``; equal tests give equal bytes."""
    return canonical_json(
        {"schema": TESTS_SCHEMA, "tests": [test.model_dump(mode="json", by_alias=True) for test in tests]}
    )


def parse_tests(content: bytes) -> tuple[ModelTest, ...]:
    """Restore the tests from :func:`written_tests`.

    Raises
    ------
    BundleError
        A different schema, an invalid test, or two tests with one id.
    """
    try:
        document = json.loads(content)
        if document["schema"] != TESTS_SCHEMA:
            raise ValueError("another schema")
        tests = TypeAdapter(tuple[ModelTest, ...]).validate_python(document["tests"])
        if len({test.id for test in tests}) != len(tests):
            raise ValueError("an id is not unique")
    except (ValidationError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise BundleError(
            f"{TESTS_FILE}: not the tests of a bundle. Expected schema {TESTS_SCHEMA}. Use the version of mlho that wrote the "
            "bundle, or build it again."
        ) from error
    return tests


def failed_sentence(failed: Sequence[ModelTestResult], n_tests: int) -> str:
    """Return how many of the tests failed, and the defects of the first three.

    Examples
    --------
    >>> failed_sentence([], 38)
    '0 of 38 tests failed.'
    """
    named = " ".join(f"{result.id}: {result.defect}" for result in failed[:3])
    return f"{len(failed)} of {n_tests} tests failed. {named}".strip()
