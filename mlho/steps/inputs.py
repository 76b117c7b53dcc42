"""Shared helpers: pinned inputs, and the learning problem from its artifacts."""

import json
import socket
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from mlho.errors import InputChanged
from mlho.steps.base import InputFile, Work
from mlho.store.base import file_digest

if TYPE_CHECKING:
    from mlho.encoding.cohort.cohort import Cohort
    from mlho.sources.files import RemoteFile, SourceFile
    from mlho.store.inputs import PinnedRoot
    from mlho.training.iterations.problem import Problem


def checked_source(work: Work, source: InputFile) -> "Path | RemoteFile":
    """Return the location of an input, after checking that it still matches the manifest.

    A file is compared here; an object of a bucket is compared by the server, at every read.

    Raises
    ------
    InputChanged
        Its size or content differs, or the file does not exist.
    """
    from mlho.store.inputs import S3Root, open_data

    root = open_data(work.data)
    if isinstance(root, S3Root):
        return root.file(source.key, size=source.size, version=source.version).path
    assert isinstance(root, Path)
    path = root / source.key
    if not path.is_file():
        raise InputChanged(
            source.key,
            f"not there on this machine ({socket.gethostname()})",
            expected=f"the file in the folder {root}",
            got="no file",
            remedy="Mount the folder there at the same path, or give the worker --data. Submit the run again when the data are "
            "complete.",
        )
    if path.stat().st_size != source.size or file_digest(path) != source.version:
        raise InputChanged(
            source.key,
            "the file changed after the run began",
            expected=f"{source.size} bytes with the content of the manifest",
            got="other content",
            remedy="Submit the run again when the data are complete: changed data are a new run.",
        )
    return path


def checked_files(work: Work) -> "list[SourceFile]":
    """Return the inputs of the task, each checked against the manifest."""
    from mlho.sources.files import SourceFile

    return [SourceFile(source.key, checked_source(work, source), source.size) for source in work.task.sources]


def checked_root(work: Work) -> "PinnedRoot":
    """Return a root that lists exactly the inputs in the manifest, each checked against it."""
    from mlho.store.inputs import PinnedRoot

    return PinnedRoot(checked_files(work))


def open_cohort(work: Work) -> "Cohort":
    """Open the cohort among the inputs."""
    from mlho.encoding.cohort.cohort import Cohort

    return Cohort.read(work.one("cohort").path("cohort.arr"))


def open_problem(work: Work) -> "Problem":
    """Open the learning problem: the cohort, the dictionary, the packed blocks and the concepts among the inputs.

    The problem of a process's last task is kept: tasks of one run share its splits and rings, which hash every patient. The
    files of each task are verified nevertheless.
    """
    paths = (
        work.one("cohort").path("cohort.arr"),
        work.one("dictionary").path("dictionary.arr"),
        work.one("concepts").path("concepts.json"),
        *(block.path("block.arr") for block in work.inputs["blocks"]),
    )
    spec = work.spec.model_dump_json(by_alias=True)
    return _problem_of(spec, tuple((path, path.stat().st_mtime_ns) for path in paths))


@lru_cache(maxsize=1)
def _problem_of(spec: str, files: "tuple[tuple[Path, int], ...]") -> "Problem":
    from mlho.encoding.cohort.cohort import Cohort
    from mlho.encoding.events.concepts import Concepts
    from mlho.encoding.events.dictionary import Dictionary
    from mlho.encoding.events.sequences import open_matrix
    from mlho.encoding.events.utilisation import utilisation_columns
    from mlho.spec.training import TrainingSpec
    from mlho.training.iterations.problem import Problem

    training_spec = TrainingSpec.model_validate_json(spec)
    (cohort_path, _), (dictionary_path, _), (concepts_path, _), *blocks = files
    cohort, codes = Cohort.read(cohort_path), Dictionary.read(dictionary_path).codes
    matrix = open_matrix(training_spec, [path for path, _ in blocks], cohort, n_codes=len(codes))
    if training_spec.features.utilisation:
        demographics = (*cohort.demographics, *utilisation_columns(matrix, training_spec.windows))
        cohort = replace(cohort, demographics=demographics)
    concepts = Concepts(**json.loads(concepts_path.read_bytes()))
    return Problem(training_spec, cohort, matrix, codes, concepts)
