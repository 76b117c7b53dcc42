"""Namespaces that share a release: each one reads only below its own prefixes and scores only with models of its own runs."""

from typing import Final

import pytest

from mlho.spec.scoring import BundleSource, ScoringRunSpec, parse_scoring_spec
from scheduler.api.tenancy import ForeignAddress, check_addresses, prefixes_of
from scheduler.controller.reasons import reason_of

PREFIXES: Final = {"ward": ["s3://ehr/ward/"], "other": ["s3://ehr/other/"]}
RUNS: Final = {
    "a" * 16: "s3://ehr/ward/cohort/",
    "b" * 16: "s3://ehr/other/cohort/",
    "channel:ward": "s3://ehr/ward/cohort/",
    "channel:other": "s3://ehr/other/cohort/",
}


def scoring(data: str, bundle: str) -> ScoringRunSpec:
    """Return a scoring run with this data and bundle."""
    return parse_scoring_spec(
        f"""
apiVersion: mlho.io/v1alpha1
kind: ScoringRun
metadata: {{name: nightly}}
spec:
  bundle: {{uri: "{bundle}"}}
  data: {{uri: "{data}", tables: {{events: events/}}, partitionedBy: patient}}
  index: {{date: "2026-01-01"}}
"""
    )


@pytest.mark.parametrize(
    ("data", "bundle", "refused"),
    [
        ("s3://ehr/ward/new/", "run:" + "a" * 16, None),
        ("s3://ehr/ward", "s3://ehr/ward/bundle", None),
        ("s3://ehr/ward/new/", "channel:ward", None),
        ("s3://ehr/ward/new/", "channel:other", "bundle.uri"),
        ("s3://ehr/ward/new/", "channel:none", "bundle.uri"),
        ("s3://ehr/ward/new/", "run:" + "b" * 16, "bundle.uri"),
        ("s3://ehr/ward/new/", "run:" + "c" * 16, "bundle.uri"),
        ("s3://ehr/ward/new/", "s3://ehr/other/bundle", "bundle.uri"),
        ("s3://ehr/wards/new/", "run:" + "a" * 16, "data.uri"),
        ("s3://ehr/ward/../other/", "run:" + "a" * 16, "data.uri"),
    ],
)
def test_a_namespace_reads_below_its_prefixes_only(data: str, bundle: str, refused: str | None):
    """A namespace may not read outside its prefixes. The error is the same for a run of another namespace and for a missing run."""
    spec, allowed = scoring(data, bundle), prefixes_of("ward", PREFIXES)
    if refused is None:
        check_addresses(spec, allowed, RUNS.get)
        return
    with pytest.raises(ForeignAddress, match=f"^{refused}: .* s3://ehr/ward/") as error:
        check_addresses(spec, allowed, RUNS.get)
    assert reason_of(error.value) == "ForeignAddress"


def test_a_namespace_compares_with_its_own_models_only():
    """The limits apply to the bundle of ``compareWith`` as well."""
    allowed = prefixes_of("ward", PREFIXES)
    for name, is_own in (("channel:ward", True), ("channel:other", False)):
        spec = scoring("s3://ehr/ward/new/", "run:" + "a" * 16)
        compared = spec.spec.model_copy(update={"compare_with": BundleSource(uri=name)})
        spec = spec.model_copy(update={"spec": compared})
        if is_own:
            check_addresses(spec, allowed, RUNS.get)
            continue
        with pytest.raises(ForeignAddress, match=r"^compareWith\.uri: "):
            check_addresses(spec, allowed, RUNS.get)


def test_without_prefixes_there_are_no_limits():
    """Without prefixes in the configuration, there are no limits. With prefixes, a namespace that is not listed may read nothing."""
    spec = scoring("s3://any/where/", "run:" + "b" * 16)

    check_addresses(spec, prefixes_of("ward", {}), RUNS.get)
    with pytest.raises(ForeignAddress, match="may read: none"):
        check_addresses(spec, prefixes_of("third", PREFIXES), RUNS.get)
