"""The meanings of open fields: without the texts of the specification, no dossier is made."""

import pytest

from mlho.report.dossier.document import _meanings
from mlho.spec.statements import Statements


def test_each_field_that_closes_a_gap_has_a_meaning():
    """An open item says what to state."""
    assert all(_meanings().values())


def test_fields_without_their_text_are_an_error(monkeypatch):
    """A process of the fork server does not read the texts: meanings would be empty without a word."""
    monkeypatch.setattr(next(iter(Statements.model_fields.values())), "description", None)

    with pytest.raises(RuntimeError, match=r"Statements\.\w+ has no description"):
        _meanings()
