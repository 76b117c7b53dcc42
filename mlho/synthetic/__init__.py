"""Synthetic cohorts with a planted truth: EHR events of any size, with known effects.

``make_cohort`` writes three tables and ``truth.json``; ``python -m mlho.synthetic`` does the same from a shell. Importing
this package costs nothing: numpy and pyarrow are imported when a cohort is made.
"""

from pathlib import Path

from mlho.synthetic.truth import Truth, is_complete, read_truth

__all__ = ["Truth", "is_complete", "make_cohort", "read_truth"]


def make_cohort(
    folder: str | Path,
    *,
    n_patients: int = 10_000,
    n_codes: int = 1_000,
    n_partitions: int = 4,
    seed: int = 7,
    rows_per_patient: int = 200,
    prevalence: float = 0.1,
    n_workers: int = 1,
) -> Truth:
    """Write a cohort in ``dbmart`` layout, and return the planted effects.

    The values depend only on ``n_patients``, ``n_codes``, ``seed``, ``rows_per_patient`` and ``prevalence``. With a different
    number of partitions or workers, the same rows are in different files. The memory of a worker does not grow with the number
    of patients.

    Parameters
    ----------
    folder : str or Path
        Receives ``events/``, ``labels/``, ``demographics/``, ``codes.parquet`` and, last, ``truth.json``. A cohort that this
        function wrote there before is replaced.
    n_patients : int, 1 or more
    n_codes : int, 200 or more
        Size of the vocabulary; frequencies follow Zipf's law.
    n_partitions : int, 1 or more
        Files of each table. A patient's rows are in one partition.
    seed : int, 0 or more
    rows_per_patient : int, 4 or more
        Mean number of background events; planted codes add to it.
    prevalence : float in (0, 1)
        Expected share of patients with the outcome.
    n_workers : int, 1 or more
        Processes that write partitions. With more than one, the caller's script must be importable
        (``if __name__ == "__main__":``), because the processes are spawned.

    Returns
    -------
    Truth

    Raises
    ------
    SpecError
        An argument is out of range, there are more partitions than batches of patients, or the folder has tables that
        this function did not write.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     truth = make_cohort(folder, n_patients=50, n_codes=200, n_partitions=2, seed=1)
    >>> truth.causal[0].odds_ratio
    3.0
    """
    from mlho.synthetic.cohort import Request, write_cohort

    request = Request(
        n_patients=n_patients,
        n_codes=n_codes,
        n_partitions=n_partitions,
        seed=seed,
        rows_per_patient=rows_per_patient,
        prevalence=prevalence,
    )
    return write_cohort(Path(folder), request, n_workers=n_workers)
