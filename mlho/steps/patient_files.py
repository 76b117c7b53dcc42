"""Files of artifacts that hold patients' ids, and a search for given patients in them."""

from collections.abc import Set
from pathlib import Path
from typing import Final

PATIENT_FILES: Final = {
    "cohort.arr": "encoded rows",
    "rule_events.arr": "events of the cohort's rules",
    "labels.arr": "labels by the cohort's rules",
    "roster.arr": "table of patients to score",
    "persons.arr": "demographics",
    "part.parquet": "scores",
}
"""Kind of patient data by file name. Other files identify a patient only by the position in one of these."""


def patients_in(path: Path, name: str, wanted: Set[str]) -> set[str]:
    """Return those of the wanted patients whose ids a file holds.

    Parameters
    ----------
    name : str
        Name of the file in its artifact, one of ``PATIENT_FILES``.
    wanted : set of str
        Ids of patients, or of the persons of ``cohort.groupBy``.
    """
    if name.endswith(".parquet"):
        import pyarrow.parquet as pq

        held = pq.read_table(path, columns=["patient_id"])["patient_id"].unique()
        return set(held.to_pylist()) & wanted
    from mlho.arrays import texts_of
    from mlho.pseudonyms import read_id_arrays

    arrays = read_id_arrays(path)
    texts = [stem.removesuffix("_bytes") for stem in arrays if stem.endswith("id_bytes")]
    return {patient for stem in texts for patient in texts_of(stem, arrays) if patient in wanted}
