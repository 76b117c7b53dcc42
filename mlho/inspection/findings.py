"""Findings of an inspection: facts about the tables, errors and warnings. Counts of patients obey ``report.minCell``."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from mlho.errors import DataError, MlhoError, SpecError


@dataclass(frozen=True)
class TableFacts:
    """Facts about one table."""

    name: str
    n_files: int
    n_bytes: int
    n_columns: int | None
    """Largest number of columns in any file; ``None`` if a file cannot be opened."""


@dataclass
class Inspection:
    """The result of an inspection, filled in while tables are read."""

    tables: list[TableFacts] = field(default_factory=list)
    left_out: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """By table, files in its folder that are not read."""
    facts: dict[str, str] = field(default_factory=dict)
    """Facts for the reader to confirm, such as the number of patients with the outcome: words by name."""
    size: tuple[int, int] | None = None
    """Patients of the cohort of a training run, and those with the outcome; ``None`` if the labels were not read. As (n_patients,
    n_positive)."""
    n_samples: int | None = None
    """Samples of the cohort of a training run."""
    samples: str | None = None
    """Digest of patients and index dates; runs with equal samples can share the encoding."""
    errors: list[MlhoError] = field(default_factory=list)
    """Errors that would stop a run."""
    warnings: list[str] = field(default_factory=list)
    """Warnings about what a run would accept although its author may not intend it."""

    def attempt[Result](self, look: Callable[[], Result]) -> Result | None:
        """Return the result of a check, or ``None`` if it raises an error about the data or the specification. Add that error."""
        try:
            return look()
        except (DataError, SpecError) as error:
            if str(error) not in map(str, self.errors):
                self.errors.append(error)
            return None

    def warn(self, sentences: Iterable[str]) -> None:
        """Add warnings that are not yet in the list."""
        self.warnings += [sentence for sentence in sentences if sentence not in self.warnings]

    def to_json(self) -> dict[str, Any]:
        """Return plain values for programs."""
        return {
            "valid": not self.errors,
            "tables": {
                table.name: {k: v for k, v in vars(table).items() if k != "name"} for table in self.tables
            },
            "facts": self.facts,
            "errors": [str(error) for error in self.errors],
            "warnings": self.warnings,
        }
