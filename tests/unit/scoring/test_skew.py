"""Train/serve skew is found before a night, with the code that scores the night."""

import pytest

import mlho.scoring.partition
from mlho.errors import BundleError
from mlho.scoring.skew import Skew, find_skew
from mlho.store.memory import MemoryStore
from tests.unit.scoring.conftest import score_inline


def test_both_paths_agree_to_the_last_bit(trained, tmp_path):
    """Training and scoring agree for every synthetic patient, with counts, values, sequences, utilisation, two windows, demographics and dates."""
    found = find_skew(trained.bundle, tmp_path)

    assert found == Skew(n_patients=6, features=0.0, scores=0.0)


@pytest.mark.parametrize("defect", ["features", "demographics", "calibration"])
def test_a_skew_of_the_scoring_path_scores_no_patient(defect, trained, monkeypatch):
    """A lost feature, shifted demographics and another calibration, in scoring only, prevent scoring."""
    cls = mlho.scoring.partition.ScoredPartition
    if defect == "calibration":
        blocks = cls.blocks

        def miscalibrated(self, **options):
            for block in blocks(self, **options):
                block.probability[:] += 1e-9
                yield block

        monkeypatch.setattr(cls, "blocks", miscalibrated)
    elif defect == "features":
        cells_of = mlho.scoring.partition.cells_of_features
        monkeypatch.setattr(
            "mlho.scoring.partition.cells_of_features",
            lambda *arguments: [*cells_of(*arguments)[:-1], cells_of(*arguments)[0]],
        )
    else:
        values_of = mlho.scoring.partition.KnownPersons.values_of

        def shifted(*arguments):
            return {
                name: [value + 1 if isinstance(value, int | float) else value for value in values]
                for name, values in values_of(*arguments).items()
            }

        monkeypatch.setattr("mlho.scoring.persons.KnownPersons.values_of", shifted)
    store = MemoryStore()
    with pytest.raises(BundleError, match=r"train/serve skew\. .*synthetic patients.*at most 1e-12; got"):
        score_inline(trained.folder, store)

    assert not [key for key in store.keys("runs/") if "/scores/" in key]
