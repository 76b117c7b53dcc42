"""Step: write the result as JSON and as an HTML page."""

import os
from collections import Counter
from importlib import metadata
from typing import TYPE_CHECKING, Any, ClassVar, Final

from mlho.errors import SpecError
from mlho.settings import IMAGE
from mlho.spec.scoring import RUN_BUNDLE
from mlho.spec.training import TrainingSpec, digest_of
from mlho.steps.base import Step, Work
from mlho.steps.inputs import open_cohort, open_problem
from mlho.steps.learn.artifacts import read_iterations
from mlho.steps.publish.fit_final_model import matrix_digest
from mlho.steps.publish.pin_earlier import facts_of

if TYPE_CHECKING:
    from mlho.report.changes import ChangesSince
    from mlho.report.result import Result
    from mlho.training.results.publish import Provenance, RunChecks, RunLedgers

_VERSIONS_OF: Final = (
    "mlho-batch",
    "numpy",
    "scipy",
    "numba",
    "pyarrow",
    "scikit-learn",
    "xgboost-cpu",
    "interpret-core",
)
_VERSION: Final = "Version: "
_WHERE: Final = ("tables", "uri", "partitionedBy")  # fields of ``data`` for the location and the partitioning


class WriteReport(Step):
    """``result.json`` and ``report.html``."""

    kind: ClassVar[str] = "write_report"
    version: ClassVar[int] = 37
    sections: ClassVar[tuple[str, ...]] = tuple(name for name in TrainingSpec.model_fields if name != "data")
    reads_rules: ClassVar[bool] = True
    tables: ClassVar[tuple[str, ...]] = ("events", "labels", "demographics", "concepts")
    reads_promise: ClassVar[bool] = True
    reads_temporal_check: ClassVar[bool] = True

    def run(self, work: Work) -> dict[str, Any]:
        """Write both, and return the digest of the result."""
        from mlho.report.page.html import render_html
        from mlho.report.result import BundleTest
        from mlho.training.results.performance import PerformanceRecord
        from mlho.training.results.publish import assemble_result
        from mlho.training.results.summary import SummaryRecord

        result = assemble_result(
            open_problem(work),
            SummaryRecord.model_validate(work.one("summary").json("summary.json")),
            PerformanceRecord.model_validate(work.one("performance").json("performance.json")),
            [record.result for record in read_iterations(work)],
            final=work.one("model").json("final.json"),
            tests=[BundleTest(**test) for test in work.one("tests").json("tests.json")],
            ledgers=_ledgers(work),
            checks=_checks(work),
            provenance=_provenance(work),
        )
        if work.spec.compare_with is not None:
            result = result.model_copy(update={"changes": _changes(work, result)})
        work.write_json("result.json", result.model_dump(mode="json"))
        (work.out / "report.html").write_text(render_html(result), encoding="utf-8")
        return {"result_digest": result.result_digest}


def _changes(work: Work, result: "Result") -> "ChangesSince":
    """Compare the run with the earlier one that the specification names."""
    from mlho.arrays import read_arrays
    from mlho.encoding.events.dictionary import Dictionary
    from mlho.external.comparison import RunFacts, changes_since, final_tests

    cohort, pinned, earlier_run = open_cohort(work), work.one("earlier"), work.spec.compare_with
    assert earlier_run is not None
    run = earlier_run.uri.removeprefix(RUN_BUNDLE)
    try:
        earlier = facts_of(pinned, pinned.json("result.json"), run=run, name=str(pinned.facts["name"]))
    except (KeyError, ValueError) as error:
        raise SpecError(
            f"compareWith: the artifacts of run {run} are those of another version of this program ({type(error).__name__}). Run its "
            "specification again with this version, or leave out compareWith; the other tasks of this run are not repeated."
        ) from None
    iterations = sorted(work.inputs["iterations"], key=lambda iteration: iteration.commit.task)
    scores = (read_arrays(iteration.path("scores.arr")) for iteration in iterations)
    this_run = RunFacts(
        run="",
        name="",
        result_digest="",
        result=result,
        cohort=cohort,
        dictionary=Dictionary.read(work.one("dictionary").path("dictionary.arr")),
        tests=final_tests(result, scores),
    )
    return changes_since(earlier, this_run)


def _ledgers(work: Work) -> "RunLedgers":
    from mlho.training.results.publish import RunLedgers

    return RunLedgers(
        events=work.one("ledger").json("ledger.json"),
        labels=work.one("cohort").json("labels.json"),
        rows_by_year=_rows_by_year(work),
    )


def _checks(work: Work) -> "RunChecks":
    from mlho.report.result import LaterEvaluation, Leakage, Quality
    from mlho.training.results.publish import RunChecks

    return RunChecks(
        leakage=Leakage(**work.one("leakage").json("leakage.json")),
        quality=Quality(**work.one("quality").json("quality.json")),
        later=LaterEvaluation(**work.one("later").json("later.json")) if work.inputs.get("later") else None,
    )


def _provenance(work: Work) -> "Provenance":
    from mlho.report.result import About, Lineage
    from mlho.training.results.publish import Provenance

    return Provenance(
        lineage=Lineage(**_lineage(work)),
        about=About(**work.params.get("about", {})),
        made_at=_made_at(work),
        timing=_timing(work),
        inputs=_inputs(work),
    )


def _lineage(work: Work) -> dict[str, Any]:
    plain = work.spec.model_dump(mode="json", by_alias=True)
    plain["data"] = {name: value for name, value in plain["data"].items() if name not in _WHERE}
    return {
        "matrix_digest": matrix_digest(work),
        "method": str(WriteReport.version),
        "seed": work.spec.validation.seed,
        "spec": plain,
        "spec_digest": digest_of(plain),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Return the versions of the installed packages that computed the result."""
    by_package = {}
    for name in _VERSIONS_OF:
        try:
            by_package[name] = _version_of(metadata.distribution(name))
        except metadata.PackageNotFoundError:
            continue
    return by_package


def _version_of(package: metadata.Distribution) -> str:
    """Return the version of a package. ``Distribution.version`` would parse its metadata as an email and import those modules."""
    lines = (package.read_text("METADATA") or "").splitlines()
    stated = (line.removeprefix(_VERSION) for line in lines if line.startswith(_VERSION))
    return next(stated, None) or package.version


def _timing(work: Work) -> dict[str, Any]:
    """Seconds and tasks by kind, over the tasks that this one reads; from their write-once commit records."""
    timing: dict[str, dict[str, float]] = {}
    for artifacts in work.inputs.values():
        for artifact in artifacts:
            cost = timing.setdefault(artifact.commit.kind, {"seconds": 0.0, "tasks": 0})
            cost["seconds"] = round(cost["seconds"] + artifact.commit.seconds, 3)
            cost["tasks"] += 1
    return dict(sorted(timing.items()))


def _rows_by_year(work: Work) -> dict[str, int]:
    total: Counter[str] = Counter()
    for artifact in work.inputs["partitions"]:
        total.update(artifact.facts["rows_by_year"])
    return dict(sorted(total.items()))


def _made_at(work: Work) -> str | None:
    """Return when the last of the tasks that this one reads ended, by their write-once records: equal in every attempt."""
    times = [artifact.commit.finished_at for artifacts in work.inputs.values() for artifact in artifacts]
    return max((time for time in times if time is not None), default=None)


def _inputs(work: Work) -> dict[str, Any]:
    plain = work.spec.model_dump(mode="json", by_alias=True)["data"]
    partitions = [artifact.facts["ledger"] for artifact in work.inputs["partitions"]]
    files = [source.plain() for source in work.task.sources]
    inputs = {
        "data": {name: plain[name] for name in _WHERE if name != "uri"},
        "files": files,
        "ledger_by_partition": partitions,
    }
    image = os.environ.get(IMAGE)
    optional = {"left_out": work.params.get("left_out"), "image": image}
    return inputs | {name: value for name, value in optional.items() if value}
