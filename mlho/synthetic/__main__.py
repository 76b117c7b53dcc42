"""``python -m mlho.synthetic``: write a cohort with a planted truth."""

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from typing import Final

from mlho.errors import MlhoError
from mlho.synthetic import make_cohort

_ABOUT: Final = """\
Write synthetic EHR data with known effects.

FOLDER receives:
  events/        patient_num, start_date, phenx, value      what was recorded
  labels/        patient_num, index_date, outcome, outcome_date, true_risk
  demographics/  patient_num, sex, race, site, birth_date, enrol_start, enrol_end
  truth.json, codes.parquet                                 what was planted

A specification reads them with `source: dbmart`, `outcome: outcome` and `index: {column: index_date}`.

Planted: 20 causal codes with odds ratios from 3.0 to 0.4 (the effects of two vanish in 2019), an interaction, 5
ordered pairs (A before B has an effect, B before A has none), 20 comorbidity clusters of which 3 are harmful, 30
proxies that follow a cause, a leak code and an outcome code (both recorded only after the index date), two groups with
lost rows and another base rate, a recode in 2015-10, codes whose frequency rises or falls, a code that is new in 2017,
and recording errors.

The same seed, prevalence and numbers of patients, codes and rows give the same values for any number of partitions
and workers.
"""
_EXAMPLES: Final = """\
examples:
  python -m mlho.synthetic --out cohort                      10,000 patients, 2 million rows, a few seconds
  python -m mlho.synthetic --out big --patients 1000000 --codes 20000 --partitions 64
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Write a cohort; return the exit code."""
    options = _parser().parse_args(arguments)
    started = time.monotonic()
    try:
        truth = make_cohort(
            options.out,
            n_patients=options.patients,
            n_codes=options.codes,
            n_partitions=options.partitions,
            seed=options.seed,
            rows_per_patient=options.rows_per_patient,
            prevalence=options.prevalence,
            n_workers=options.workers,
        )
    except MlhoError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    except OSError as error:
        sys.stderr.write(
            f"error: {options.out}: cannot be written ({type(error).__name__}). Use a folder on a disk with free space.\n"
        )
        return MlhoError.exit_code
    figures = {
        "patients": options.patients,
        "rows": truth.n_rows,
        "positives": truth.n_positive,
        "seconds": round(time.monotonic() - started, 1),
    }
    sys.stdout.write(json.dumps(figures) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m mlho.synthetic",
        description=_ABOUT,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--out", required=True, metavar="FOLDER", help="folder to write; a cohort in it is replaced"
    )
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    whole = (
        ("--patients", 10_000, "patients"),
        ("--codes", 1_000, "codes of the vocabulary, 200 or more"),
        ("--partitions", 4, "files of each table; a patient is in one"),
        ("--seed", 7, "seed of all random draws"),
        ("--rows-per-patient", 200, "mean number of background events of a patient"),
        ("--workers", cores, "processes that write"),
    )
    for name, default, meaning in whole:
        parser.add_argument(
            name, type=int, default=default, metavar="N", help=f"{meaning} (default: {default})"
        )
    parser.add_argument(
        "--prevalence",
        type=float,
        default=0.1,
        metavar="P",
        help="expected share of patients with the outcome (default: 0.1)",
    )
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
