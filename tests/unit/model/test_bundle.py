"""A bundle predicts the probabilities of training in any process, and any altered bundle is refused."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.sparse import csc_array

from mlho.errors import BundleError, DataError
from mlho.method.classifiers import CLASSIFIERS
from mlho.method.evaluation.thresholds import Threshold
from mlho.model.bundle import load_bundle, write_bundle

SMALL = {"xgboost": {"nRounds": 20, "maxDepth": 2}}

PREDICT = """
import sys, numpy as np
from mlho.model.bundle import load_bundle
X = np.load(sys.argv[1])
for folder in sys.argv[2:]:
    bundle = load_bundle(folder)
    rows = [bundle.predict_proba(X[[row]]) for row in range(len(X))]
    print(np.concatenate(rows).tobytes().hex())
"""


def test_a_fresh_process_predicts_the_same_bits_row_by_row(parts, tmp_path):
    """For every classifier, a new process predicts row by row the same bits that training predicted in one batch."""
    parts_by_classifier = {
        classifier: parts(classifier, SMALL.get(classifier)) for classifier in sorted(CLASSIFIERS)
    }
    for classifier, bundle_parts in parts_by_classifier.items():
        write_bundle(tmp_path / classifier, bundle_parts)
    X = np.random.Generator(np.random.PCG64(3)).normal(size=(20, 5)).round(2)
    np.save(tmp_path / "X.npy", X)

    command = [sys.executable, "-c", PREDICT, "X.npy", *parts_by_classifier]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)

    predicted = dict(zip(parts_by_classifier, done.stdout.split(), strict=True))
    assert predicted == {
        classifier: bundle_parts.calibrator.apply(bundle_parts.classifier.predict_proba(X)).tobytes().hex()
        for classifier, bundle_parts in parts_by_classifier.items()
    }


@pytest.mark.parametrize("classifier", sorted(CLASSIFIERS))
def test_a_new_bundle_passes_its_own_tests(classifier, parts, tmp_path):
    """A new bundle passes every test it contains; only linear models have a test of directions."""
    write_bundle(tmp_path / "bundle", parts(classifier, SMALL.get(classifier)))

    results = load_bundle(tmp_path / "bundle").run_tests()

    assert [result for result in results if not result.passed and result.level == "defect"] == []
    is_linear = classifier in ("glmboost", "elasticnet")
    assert ("directions.coefficients" in [result.id for result in results]) == is_linear


def test_equal_parts_give_equal_bytes(parts, tmp_path):
    """Two bundles of the same parts have the same files and the same digest."""
    first = write_bundle(tmp_path / "first", parts())
    second = write_bundle(tmp_path / "second", parts())

    assert first == second == hashlib.sha256((tmp_path / "first/bundle.json").read_bytes()).hexdigest()
    assert _contents(tmp_path / "first") == _contents(tmp_path / "second")


def test_everything_survives_the_way_through_the_files(parts, tmp_path):
    """Features, encodings with one open bound, thresholds, calibrator and lineage are equal after a round trip through the files."""
    bundle_parts = parts()
    digest = write_bundle(tmp_path / "bundle", bundle_parts)

    bundle = load_bundle(tmp_path / "bundle", digest=digest)

    assert bundle.document.features == bundle_parts.features
    assert bundle.document.features[3].encoding.reference.high == float("inf")
    assert (bundle.thresholds, bundle.calibrator) == (bundle_parts.thresholds, bundle_parts.calibrator)
    assert bundle.document.lineage == dict(bundle_parts.lineage)
    assert bundle.features["window_days"].tolist() == [365, 365, 730, 730, 730]


@settings(max_examples=25, deadline=None)
@given(X=hnp.arrays(np.float64, (4, 5), elements=st.floats(-1e6, 1e6)))
def test_a_row_scores_the_same_in_any_company_and_form(X, bundle_folder):
    """A row alone, in any order, dense, sparse or as a DataFrame with reordered columns has the same bits."""
    bundle = load_bundle(bundle_folder)
    scores = bundle.predict_proba(X)

    frame = pd.DataFrame(X, columns=bundle.columns).iloc[:, ::-1].assign(other="ignored")

    assert [bundle.predict_proba(X[[row]])[0] for row in range(4)] == scores.tolist()
    assert np.array_equal(bundle.predict_proba(X[::-1])[::-1], scores)
    assert np.array_equal(bundle.predict_proba(csc_array(X)), scores)
    assert np.array_equal(bundle.predict_proba(frame), scores)


def test_contributions_add_up_to_the_log_odds(bundle_folder):
    """Contributions and intercept of a row add up to its log-odds."""
    bundle = load_bundle(bundle_folder)
    frame = pd.DataFrame([[1, 3, 0.5, 0, 2.0]], columns=bundle.columns, index=["someone"])

    explained = bundle.explain(frame)

    assert list(explained.columns) == [*bundle.columns, "intercept"]
    assert list(explained.index) == ["someone"]
    log_odds = np.log(
        bundle.predict_proba(frame, calibrated=False) / (1 - bundle.predict_proba(frame, calibrated=False))
    )
    assert explained.loc["someone"].sum() == pytest.approx(log_odds[0], abs=1e-12)


def test_missing_columns_are_counted_and_the_first_ones_named(bundle_folder):
    """The error counts the missing columns of a frame and names the first ones."""
    bundle = load_bundle(bundle_folder)

    with pytest.raises(DataError, match=r"got 4 missing, first: E11\|365\|count, A1C\|730\|last"):
        bundle.predict_proba(pd.DataFrame({"I10|365|presence": [1.0]}))


def test_text_in_a_feature_matrix_is_refused_without_showing_it(bundle_folder):
    """Text in a feature matrix is refused, and the error never shows the cell."""
    bundle = load_bundle(bundle_folder)
    frame = pd.DataFrame([["Jane Doe", 0, 0, 0, 0]], columns=bundle.columns)

    with pytest.raises(DataError) as caught:
        bundle.predict_proba(frame)
    assert "Jane" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "name", ["bundle.json", "bundle.sha256", "model/model.json", "model_card.md", "tests/golden.json"]
)
@pytest.mark.parametrize("damage", ["one bit", "shorter", "gone"])
def test_a_damaged_file_is_refused(name, damage, bundle_folder, tmp_path):
    """A changed bit, a truncation or a missing file is refused, and the error names the file."""
    folder = _copy(bundle_folder, tmp_path)
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    match damage:
        case "one bit":
            (folder / name).write_bytes(content)
        case "shorter":
            (folder / name).write_bytes(content[:-1])
        case "gone":
            (folder / name).unlink()

    with pytest.raises(
        BundleError, match=r"bundle\.(json|sha256)" if name == "bundle.sha256" else name.replace(".", r"\.")
    ) as caught:
        load_bundle(folder)
    assert "Expected" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": "mlho.io/bundle/v2"}, "a different schema"),
        ({"formatVersion": 2}, "a different format version"),
        ({"formatVersion": True}, "a different format version"),
        ({"classifier": "deepnet"}, "unknown classifier"),
        ({"columns": ["only one"]}, "columns: must begin with the ids"),
        ({"surprise": 1}, r"surprise: Extra inputs .*Use the version of mlho that wrote the bundle"),
        ({"outcome": None}, "outcome: "),
        ({"calibrator": {"intercept": 0.0, "slope": -1.0, "reason": None}}, "a positive slope"),
        ({"files": {}}, "unexpected file"),
        ({"scoring": {"indexKind": "none"}}, "the index is none"),
        ({"scoring": {"indexKind": "column", "gapDays": 365}}, "gapDays must be less"),
    ],
)
def test_a_document_that_is_not_ours_is_refused(changes, message, bundle_folder, tmp_path):
    """Other schemas, versions, fields and values are refused even if the digest matches."""
    folder = _copy(bundle_folder, tmp_path)
    _rewrite(folder, lambda document: {**document, **changes})

    with pytest.raises(BundleError, match=message):
        load_bundle(folder)


@pytest.mark.parametrize(
    "name", ["../outside", "/etc/passwd", "model/../../outside", "model/.hidden", "a\\b", "bundle.json"]
)
def test_names_that_lead_out_of_the_bundle_are_refused(name, bundle_folder, tmp_path):
    """A listed file must be a plain name in the bundle's own folders, so no other file is opened."""
    folder = _copy(bundle_folder, tmp_path)
    (tmp_path / "outside").write_bytes(b"x")
    entry = {"sha256": hashlib.sha256(b"x").hexdigest(), "bytes": 1}
    _rewrite(folder, lambda document: {**document, "files": {**document["files"], name: entry}})

    with pytest.raises(BundleError, match=r"files: 1 name outside"):
        load_bundle(folder)


def test_a_file_too_many_is_refused(bundle_folder, tmp_path):
    """A file that the bundle does not list is refused."""
    folder = _copy(bundle_folder, tmp_path)
    (folder / "model" / "extra.bin").write_bytes(b"")

    with pytest.raises(BundleError, match=r"1 unexpected file.*model/extra\.bin"):
        load_bundle(folder)


def test_a_link_is_refused(bundle_folder, tmp_path):
    """A link may lead anywhere, so it is refused even if its target has the right bytes."""
    folder = _copy(bundle_folder, tmp_path)
    (folder / "model_card.md").rename(tmp_path / "card")
    (folder / "model_card.md").symlink_to(tmp_path / "card")

    with pytest.raises(BundleError, match="a link or a special file"):
        load_bundle(folder)


def test_another_bundle_than_asked_for_is_refused(bundle_folder):
    """With a given digest, only the bundle with this digest is loaded."""
    with pytest.raises(BundleError, match="another bundle"):
        load_bundle(bundle_folder, digest="0" * 64)


def test_a_missing_bundle_is_a_clear_error(tmp_path):
    """The error for a missing bundle differs from that for a damaged one, and says how to name that of a run."""
    with pytest.raises(BundleError, match=r"no such folder.*run:NAME"):
        load_bundle(tmp_path / "nowhere")
    with pytest.raises(BundleError, match=r"bundle\.json is missing.*run:NAME"):
        load_bundle(tmp_path)


def test_a_bundle_is_never_written_over(parts, tmp_path):
    """Writing the same bundle again changes nothing, and another bundle in its place is refused without partial files."""
    write_bundle(tmp_path / "bundle", parts())
    before = _contents(tmp_path)

    write_bundle(tmp_path / "bundle", parts())
    with pytest.raises(BundleError, match="never overwritten"):
        write_bundle(tmp_path / "bundle", parts(outcome="another"))

    assert _contents(tmp_path) == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lineage": {}}, "no whole number 'seed'"),
        ({"statistics": ()}, "statistics of 0 columns"),
        ({"features": ()}, "classifier has 5 columns"),
        ({"thresholds": (Threshold("youden", float("inf")),)}, "thresholds: values from 0 to 1"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes, message, parts, tmp_path):
    """An unusable bundle is not written."""
    with pytest.raises(BundleError, match=message):
        write_bundle(tmp_path / "bundle", parts(**changes))
    assert list(tmp_path.iterdir()) == []


def test_a_metric_that_is_no_number_is_refused(parts, tmp_path):
    """A missing metric is null; NaN is never written."""
    with pytest.raises(BundleError, match="plain JSON without NaN"):
        write_bundle(tmp_path / "bundle", parts(metrics={"auroc": {"mean": float("nan")}}))


def test_a_wrong_model_fails_its_golden_rows(parts, tmp_path):
    """The bundle's own tests detect a model that is not the one that was built."""
    write_bundle(tmp_path / "bundle", parts())
    folder, other = tmp_path / "bundle", parts(setting={"nSteps": 150}).classifier.to_files()["model.json"]
    (folder / "model/model.json").write_bytes(other)
    entry = {"sha256": hashlib.sha256(other).hexdigest(), "bytes": len(other)}
    _rewrite(folder, lambda document: {**document, "files": {**document["files"], "model/model.json": entry}})

    results = {result.id: result for result in load_bundle(folder).run_tests()}

    assert not results["scores.golden"].passed
    assert results["rows.single"].passed
    assert "model/model.json is truncated, edited or from another model" in results["model.files"].defect


def test_text_from_data_is_escaped_in_html_and_card(parts, tmp_path):
    """Markup in names is escaped."""
    write_bundle(tmp_path / "bundle", parts(outcome="<b>a|b</b>"))
    bundle = load_bundle(tmp_path / "bundle")

    assert "<b>" not in bundle._repr_html_()
    assert r"\<b\>a\|b\</b\>" in bundle.card


def _copy(bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle, tmp_path / "copy"))


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _rewrite(folder: Path, change) -> None:
    """Change the document and write a matching digest, as an attacker would."""
    document = json.dumps(change(json.loads((folder / "bundle.json").read_text()))).encode()
    (folder / "bundle.json").write_bytes(document)
    (folder / "bundle.sha256").write_text(f"{hashlib.sha256(document).hexdigest()}  bundle.json\n")
