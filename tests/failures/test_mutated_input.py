"""Mutated specifications and tables, short form. The long form, ``make mutations``, has 5,000 and 1,000 of them."""

import pytest

from tests.failures.mutated_specs import documents, mutated_spec
from tests.failures.mutated_tables import write_mutated
from tests.failures.mutations import call, good_result, in_this_process, judged, what_is_wrong


def test_unmutated_documents_and_tables_are_valid(tmp_path):
    """The unmutated documents are accepted; a scoring run only lacks its bundle. Otherwise every mutation would fail for a common reason."""
    import yaml

    with in_this_process() as folder:
        for document in documents():
            path = folder / "spec.yaml"
            path.write_text(yaml.safe_dump(document, sort_keys=False))
            response = call(["plan", str(path), "--store", str(tmp_path)])
            assert response.code == (2 if document["kind"] == "ScoringRun" else 0), response.err
            assert what_is_wrong(response) == ""
        assert good_result()["ledger"]["rows_used"] > 0


def test_a_seed_names_a_case(tmp_path):
    """A seed gives the same mutated specification and tables on every machine."""
    assert mutated_spec(17) == mutated_spec(17)
    first, second = (write_mutated(tmp_path / name, 17) for name in ("a", "b"))
    assert (first.faults, first.needs_word) == (second.faults, second.needs_word)
    for path in first.folder.rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (second.folder / path.relative_to(first.folder)).read_bytes()


@pytest.mark.parametrize(("kind", "n"), [("specifications", 100), ("tables", 15)])
def test_mutated_input_causes_no_failure(kind, n):
    """Mutated input causes no traceback, no undocumented exit code, no hang, and no result from silently dropped input."""
    outcomes, failures = judged(kind, range(n))

    assert failures == {}
    assert sum(outcomes.values()) == n
    assert len(outcomes) > 1
