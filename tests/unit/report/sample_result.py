"""A realistic result with planted numbers, which depends only on the arguments."""

import math
import random
from typing import Any

from mlho.report.result import Result
from mlho.report.words import summary_sentences

PLANTED = (
    ("E11.9", "Type 2 diabetes mellitus without complications", 1.92),
    ("I50.9", "Heart failure, unspecified", 1.78),
    ("N18.6", "End stage renal disease", 1.71),
    ("Z79.4", "Long term (current) use of insulin", 1.44),
    ("J44.1", "Chronic obstructive pulmonary disease with (acute) exacerbation", 1.38),
    ("2160-0", "Creatinine [Mass/volume] in serum or plasma", 1.31),
    ("Z90.49", "Acquired absence of other specified parts of digestive tract", 0.71),
    ("O80", "Encounter for full-term uncomplicated delivery", 0.55),
)
DETAIL = ("in remission", "initial encounter", "follow-up", "screening", "left side", "with complication")
ORGANS = ("kidney", "heart", "lung", "liver", "eye", "skin", "joint", "thyroid")


def sample_result(
    *,
    n_features: int = 120,
    n_iterations: int = 7,
    predictive: bool = True,
    warnings: list[str] | None = None,
) -> Result:
    """Return a result of a run on 71,518 patients with eight planted features among noise."""
    draw = random.Random(f"{n_features}|{n_iterations}")
    features = [_feature(i, n_iterations, draw) for i in range(n_features)]
    features = sorted(features, key=lambda f: -f["confidence"]["score"]) + _demographics()
    aurocs = [0.676 + 0.012 * math.sin(2.4 * i) for i in range(n_iterations)]
    headline = _headline(aurocs)
    document: dict[str, Any] = {
        "outcome": "readmit_30",
        "predictive": predictive,
        "summary": [],
        "warnings": [
            "Calendar dates of this source are synthetic: their order is right, their distance is not.",
            "One feature, “Creatinine [Mass/volume] in serum or plasma”, was recorded for 97.0 % of patients: its presence says little.",
        ]
        if warnings is None
        else warnings,
        "cohort": _cohort(),
        "ledger": _ledger(),
        "features": features,
        "consensus": {
            "method": "unpenalised logistic regression on 8 features and the demographics, all patients",
            "intercept": -2.31,
            "n_samples": 101_759,
            "log_likelihood": -34_011.7,
            "notes": ["Post-selection: the same patients chose the features and fitted the model."],
        },
        "stability": {
            "nogueira": {"value": 0.71, "low": 0.66, "high": 0.76, "method": "asymptotic normal"},
            "permuted": {"value": 0.64, "low": 0.6, "high": 0.68, "method": "asymptotic normal"},
            "false_features": {
                "min_confidence": 80,
                "max_share": None,
                "expected": {"value": 1.0, "method": "shadow features"},
                "share": 0.125,
                "levels": [
                    {"min_confidence": 14, "n_features": 60, "expected_false": 41},
                    {"min_confidence": 57, "n_features": 14, "expected_false": 5},
                    {"min_confidence": 86, "n_features": 8, "expected_false": 1},
                ],
            },
            "expected_false": {
                "value": None,
                "reason": "the bound of stability selection holds for half-samples, and the test fraction is 0.3",
            },
            "n_consensus": len(PLANTED),
            "n_ever_selected": n_features,
        },
        "iterations": [_iteration(i, a, draw) for i, a in enumerate(aurocs, start=1)],
        "leakage": {"checks": [], "findings": [], "never_enter": 0},
        "quality": {"checks": [], "findings": [], "series": []},
        "candidates": _candidates(aurocs),
        "bias": _bias(),
        "procedure": f"xgboost on the features ranked in each iteration, mean over the test sets of {n_iterations} iterations",
        "test_sets": [_test_set(i, a) for i, a in enumerate(aurocs, start=1)],
        "headline": headline,
        "winners": _headline([a + 0.002 for a in aurocs]),
        "headline_auroc": [
            {"value": a, "low": a - 0.011, "high": a + 0.011, "method": "DeLong, clustered by patient"}
            for a in aurocs
        ],
        "curves": _curves(n_iterations, draw),
        "errors": _errors(),
        "final_model": _final_model(features),
        "lineage": _lineage(n_iterations, predictive),
        "timing": {
            "encode_partition": {"seconds": 12.1, "tasks": 12},
            "run_iteration": {"seconds": 136.1, "tasks": 7},
        },
        "inputs": {
            "data": {"partitionedBy": "patient", "tables": {"events": "events/", "labels": "labels.parquet"}},
            "files": [
                {"key": f"events/part-{i:04d}.parquet", "size": 1_000_000 + i, "version": f"{i:064x}"}
                for i in range(40)
            ],
            "ledger_by_partition": [{"rows_in": 45_398, "rows_used": 35_508} for _ in range(40)],
        },
    }
    result = Result.model_validate(document)
    return result.model_copy(update={"summary": summary_sentences(result)})


def _test_set(number: int, auroc: float) -> dict[str, Any]:
    return {
        "name": f"iteration {number}",
        "classifier": "xgboost",
        "n_train_patients": 50_061,
        "n_test_patients": 21_454,
        "n_features": 200,
        "thresholds": {"youden": round(0.113 + (auroc - 0.676) / 4, 4), "fixed-alert-rate:0.1": 0.21},
    }


def _spread(values: list[float], half: float) -> dict[str, Any]:
    mean = math.fsum(values) / len(values)
    variance = math.fsum((v - mean) ** 2 for v in values) / max(1, len(values) - 1)
    has_interval = len(values) > 1
    return {
        "mean": mean,
        "sd": math.sqrt(variance) if has_interval else None,
        "low": mean - half if has_interval else None,
        "high": mean + half if has_interval else None,
        "minimum": min(values),
        "maximum": max(values),
        "n": len(values),
    }


def _headline(aurocs: list[float]) -> dict[str, Any]:
    base = {
        "average_precision": (0.214, 0.009),
        "brier": (0.0951, 0.0012),
        "scaled_brier": (0.047, 0.005),
        "log_loss": (0.331, 0.004),
        "calibration_intercept": (-0.04, 0.09),
        "calibration_slope": (0.98, 0.05),
        "calibration_ici": (0.006, 0.003),
        "youden/sensitivity": (0.62, 0.02),
        "youden/ppv": (0.18, 0.01),
        "youden/alerts_per_100": (39.0, 1.5),
        "fixed-alert-rate:0.1/sensitivity": (0.24, 0.01),
    }
    shifts = [a - 0.676 for a in aurocs]
    return {
        "auroc": _spread(aurocs, 0.013),
        **{
            name: _spread([value + s * half * 20 for s in shifts], half)
            for name, (value, half) in base.items()
        },
    }


def _bias() -> dict[str, Any]:
    """Return an audit: sex with a hidden level, three years, one significant difference."""

    def estimate(value: float, half: float) -> dict[str, Any]:
        return {
            "value": value,
            "low": value - half,
            "high": value + half,
            "method": "percentile bootstrap by patient",
        }

    rule = "fixed-alert-rate:0.1"
    figures = {
        "auroc": estimate(0.66, 0.01),
        "brier": estimate(0.09, 0.002),
        "observed_expected": estimate(1.08, 0.04),
        "in_the_large": estimate(0.09, 0.05),
        "ece_equal_count": estimate(0.012, 0.004),
        f"{rule}/sensitivity": estimate(0.2, 0.02),
        f"{rule}/specificity": estimate(0.91, 0.01),
        f"{rule}/alerts_per_100": estimate(9.9, 0.3),
    }
    shown = {
        "figures": figures,
        "perfect": {"ece_equal_count": {"mean": 0.004, "high": 0.008}},
        "recalibrated": {"in_the_large": estimate(0.0, 0.05), "ece_equal_count": estimate(0.005, 0.003)},
    }
    years = [
        {"period": str(2012 + i), "n_samples": 20_000 + i, "n_positive": 2_300, "figures": figures}
        for i in range(3)
    ]
    sex = {"by": "sex", "level": "male", "reference": "female"}
    tested = {"p_value": 0.0001, "adjusted": 0.002}
    return {
        "unit": "year",
        "rules": [rule],
        "groups": [
            {"by": "all", "level": "all patients", "n_samples": 71_515, "n_positive": 8_786, "periods": years}
            | shown,
            {"by": "sex", "level": "female", "n_samples": 38_295, "n_positive": 4_755} | shown,
            {"by": "sex", "level": "male", "n_samples": 33_220, "n_positive": 4_031} | shown,
            {
                "by": "sex",
                "level": "unknown",
                "n_samples": None,
                "n_positive": None,
                "reason": "fewer than 11 patients with or without the outcome",
            },
        ],
        "comparisons": [
            sex
            | tested
            | {
                "metric": "observed_expected",
                "difference": estimate(0.2, 0.05),
                "ratio": estimate(1.2, 0.05),
            },
            sex
            | {"metric": "auroc", "difference": estimate(0.0, 0.02), "ratio": estimate(1.0, 0.03)}
            | {"p_value": 0.9, "adjusted": 0.9},
        ],
        "errors": [sex | tested | {"outcome": 1, "delta": estimate(0.1, 0.02)}],
        "gaps": [
            {
                "by": "sex",
                "metric": f"{rule}/equalised_odds",
                "value": estimate(0.02, 0.01),
                "by_chance": 0.01,
            }
        ],
        "trends": [],
    }


def _cohort() -> dict[str, Any]:
    return {
        "n_patients": 71_515,
        "n_samples": 101_759,
        "n_positive_patients": 8_786,
        "n_positive_samples": 11_352,
        "attrition": [
            {"rule": "in the labels", "patients": 71_518, "samples": 101_766},
            {"rule": "labels do not conflict", "patients": 71_517, "samples": 101_761},
            {"rule": "known in the demographics", "patients": 71_515, "samples": 101_759},
        ],
        "label_ledger": {"rows": 101_766, "used": 101_759, "conflicting": 5, "unknown patient": 2},
        "characteristics": [
            {
                "name": "age",
                "without_outcome": {"median": 67.2, "lower_quartile": 56.0, "upper_quartile": 78.4},
                "with_outcome": {"median": 68.1, "lower_quartile": 57.3, "upper_quartile": 79.0},
                "difference": 0.06,
            },
            {
                "name": "sex",
                "level": "female",
                "without_outcome": {"n": 33_540, "share": 0.535},
                "with_outcome": {"n": 4_755, "share": 0.541},
                "difference": 0.01,
            },
            {
                "name": "sex",
                "level": "male",
                "without_outcome": {"n": 29_189, "share": 0.465},
                "with_outcome": {"n": 4_031, "share": 0.459},
                "difference": -0.01,
            },
            {
                "name": "sex",
                "level": "unknown",
                "is_missing": True,
                "without_outcome": None,
                "with_outcome": None,
            },
        ],
        "index_dates": {"first": "2014-03", "last": "2018-11"},
        "event_years": {"2009": 12, "2013": 400_000, "2014": 1_020_000},
    }


def _ledger() -> dict[str, Any]:
    rules = [
        ("no-code", "The row has no code.", 1_204),
        ("no-time", "The row has no time.", 88),
        ("unknown-patient", "The patient is not in the cohort.", 3_017),
        ("after-index", "The event lies after the index date.", 391_275),
        ("before-look-back", "The event lies before the look-back window.", 0),
        ("implausible-date", "The date lies before 1900 or in the future.", 12),
    ]
    used = 1_420_311
    return {
        "rows_in": used + sum(rows for *_, rows in rules),
        "rows_used": used,
        "rules": [{"rule": rule, "meaning": meaning, "rows": rows} for rule, meaning, rows in rules],
        "notes": {"rows with a value": 210_448, "duplicates of one day, kept": 913},
    }


def _feature(i: int, n_iterations: int, draw: random.Random) -> dict[str, Any]:
    is_planted = i < len(PLANTED)
    code, description, odds = PLANTED[i] if is_planted else _noise(i, draw)
    seen = (
        n_iterations - (i % 2 if is_planted else 0)
        if is_planted
        else max(1, round(n_iterations * draw.random() ** 3))
    )
    against = 0 if is_planted else seen // 3
    score = round(100 * (seen - against - 2 * against) / n_iterations)
    width = 0.08 if is_planted else 0.3
    shrunken = math.exp(0.6 * math.log(odds))
    return {
        "id": f"{code}|730|presence",
        "words": f"{description}: recorded in the last 730 days",
        "kind": "feature",
        "code": code,
        "description": description,
        "window_days": 730,
        "aggregate": "presence",
        "n_patients": None if i % 17 == 13 else 400 + 37 * i,
        "prevalence": None if i % 17 == 13 else (400 + 37 * i) / 71_515,
        "selection_frequency": seen / n_iterations,
        "median_rank": float(i + 1),
        "confidence": {
            "score": score,
            "n_seen": seen,
            "n_positive": seen - against if odds >= 1 else against,
            "n_negative": against if odds >= 1 else seen - against,
            "mean_odds_ratio": shrunken,
            "low95": shrunken * math.exp(-width) if seen > 1 else None,
            "high95": shrunken * math.exp(width) if seen > 1 else None,
            "reason": None if seen > 1 else "seen in one iteration only",
        },
        "in_consensus": is_planted,
        "odds_ratio": {
            "per_unit": odds,
            "wald_low": odds * math.exp(-0.11),
            "wald_high": odds * math.exp(0.11),
            "profile_low": odds * math.exp(-0.112),
            "profile_high": odds * math.exp(0.113),
            "p_value": 0.00004 if odds > 1.5 else 0.013,
            "per_sd": math.exp(0.3 * math.log(odds)),
            "per_sd_low": math.exp(0.3 * math.log(odds) - 0.04),
            "per_sd_high": math.exp(0.3 * math.log(odds) + 0.04),
        }
        if is_planted
        else None,
        "in_final_model": i < 60,
        "final_importance": round(0.12 / (1 + i) + 0.001, 5) if i < 60 else None,
    }


def _noise(i: int, draw: random.Random) -> tuple[str, str, float]:
    description = f"Disorder of {draw.choice(ORGANS)}, {draw.choice(DETAIL)}, type {i}"
    return f"R{i:04d}", description, math.exp(draw.gauss(0, 0.12))


def _demographics() -> list[dict[str, Any]]:
    return [
        {
            "id": f"demographic|{name}",
            "words": words,
            "kind": "demographic",
            "selection_frequency": 1.0,
            "n_patients": n,
            "prevalence": None if n is None else n / 71_515,
            "in_final_model": True,
            "final_importance": importance,
        }
        for name, words, n, importance in (
            ("age", "age in years", None, 0.081),
            ("sex=male", "sex: male (reference: female)", 33_220, 0.012),
        )
    ]


def _evaluation(auroc: float) -> dict[str, Any]:
    def figure(value: float, half: float) -> dict[str, Any]:
        return {
            "value": value,
            "low": value - half,
            "high": value + half,
            "standard_error": half / 1.96,
            "method": "patient bootstrap",
            "reason": None,
        }

    absent = {
        "value": None,
        "low": None,
        "high": None,
        "standard_error": None,
        "method": "",
        "reason": "no alert",
    }
    rates = {"sensitivity": 0.62, "specificity": 0.64, "ppv": 0.18, "npv": 0.93, "alerts_per_100": 39.0}
    return {
        "n_samples": 30_528,
        "n_positive": 3_406,
        "n_patients": 21_454,
        "figures": {"auroc": figure(auroc, 0.011), "average_precision": figure(0.3 * auroc, 0.01)},
        "calibration": {"calibrated": {"figures": {"slope": figure(0.98, 0.06)}}},
        "thresholds": {
            "youden": {
                "threshold": round(0.113 + (auroc - 0.676) / 4, 4),
                "figures": {name: figure(v * (auroc / 0.676), 0.02 * v) for name, v in rates.items()}
                | {"number_needed_to_evaluate": figure(5.6, 0.2)},
                "reason": None,
            },
            "fixed-alert-rate:0.1": {
                "threshold": 0.21,
                "figures": {"sensitivity": figure(0.24, 0.01), "ppv": figure(0.27, 0.01), "npv": absent},
                "reason": None,
            },
        },
    }


def _iteration(number: int, auroc: float, draw: random.Random) -> dict[str, Any]:
    candidates = [
        {
            "classifier": classifier,
            "settings": [
                {"setting": {name: v}, "mean": auroc - 0.004 * k, "standard_error": 0.004}
                for k, v in enumerate(grid)
            ],
            "chosen": 0,
            "evaluation": _evaluation(auroc - shift),
            "calibrator": {"intercept": -0.1, "slope": 0.97, "reason": None},
        }
        for classifier, name, grid, shift in (
            ("xgboost", "maxDepth", (4, 2), 0.0),
            ("glmboost", "nSteps", (150, 100), 0.014 + 0.004 * draw.random()),
        )
    ]
    return {
        "iteration": number,
        "n_train_patients": 50_061,
        "n_test_patients": 21_454,
        "n_train_samples": 71_231,
        "n_test_samples": 30_528,
        "n_screened": 612,
        "n_selected": 200,
        "winner": "xgboost",
        "candidates": candidates,
    }


def _candidates(aurocs: list[float]) -> list[dict[str, Any]]:
    return [
        {
            "classifier": classifier,
            "cv_auroc": _spread([a - shift + 0.001 for a in aurocs], 0.012),
            "test": {
                "auroc": _spread([a - shift for a in aurocs], 0.013),
                "brier": _spread([0.095 + shift / 20 for _ in aurocs], 0.001),
            },
            "wins": wins,
            "is_final": is_final,
        }
        for classifier, shift, wins, is_final in (
            ("xgboost", 0.0, len(aurocs), True),
            ("glmboost", 0.016, 0, False),
        )
    ]


def _curves(n_iterations: int, draw: random.Random) -> dict[str, Any]:
    roc, pr, calibration = [], [], []
    for _ in range(n_iterations):
        power = 0.38 + 0.09 * draw.random()
        xs = [(i / 200) ** 1.6 for i in range(201)]
        ys = [x**power for x in xs]
        roc.append({"x": xs, "y": ys})
        pairs = [(y, 0.112 * y / (0.112 * y + 0.888 * x)) for x, y in zip(xs[2:], ys[2:], strict=True)]
        pr.append({"x": [r for r, _ in pairs], "y": [p for _, p in pairs]})
        tilt = 0.94 + 0.12 * draw.random()
        at = [0.02 + 0.43 * i / 49 for i in range(50)]
        bins = [0.035, 0.051, 0.064, 0.077, 0.09, 0.104, 0.121, 0.144, 0.182, 0.291]
        calibration.append(
            {
                "x": at,
                "y": [0.004 + tilt * v - 0.1 * v * v for v in at],
                "bins": [
                    {
                        "mean_predicted": m,
                        "observed": m * tilt + 0.004,
                        "low": m * tilt - 0.006,
                        "high": m * tilt + 0.015,
                        "n": 3_053,
                    }
                    for m in bins
                ],
                "histogram": {
                    "edges": [i / 50 for i in range(51)],
                    "counts": [
                        None if i > 24 else round(9_000 * math.exp(-((i - 5) ** 2) / 18)) for i in range(50)
                    ],
                },
            }
        )
    thresholds = [i / 100 for i in range(1, 51)]
    everybody = [0.112 - 0.888 * t / (1 - t) for t in thresholds]
    model = [max(a, 0.112 * math.exp(-9.5 * t)) + 0.001 for a, t in zip(everybody, thresholds, strict=True)]
    return {
        "roc": roc,
        "precision_recall": pr,
        "calibration": calibration,
        "decision": {
            "threshold": thresholds,
            "model": {
                "mean": model,
                "low": [m - 0.003 for m in model] if n_iterations > 1 else None,
                "high": [m + 0.003 for m in model] if n_iterations > 1 else None,
            },
            "all": everybody,
            "none": 0.0,
        },
    }


def _errors() -> dict[str, Any]:
    edges = [i / 20 for i in range(21)]

    def distribution(centre: float, width: float, n: int) -> dict[str, Any]:
        counts: list[int | None] = [
            round(n / 5 * math.exp(-(((i + 0.5) / 20 - centre) ** 2) / width)) for i in range(20)
        ]
        shown = [None if c is not None and 0 < c < 11 else c for c in counts]
        quantiles = {
            "0.05": centre - 0.2,
            "0.25": centre - 0.06,
            "0.5": centre,
            "0.75": centre + 0.05,
            "0.95": centre + 0.07,
        }
        return {
            "n": n,
            "quantiles": {q: min(1.0, max(0.01, v)) for q, v in quantiles.items()},
            "bin_edges": edges,
            "counts": shown,
            "reason": "counts below 11, and counts that would reveal them, are suppressed",
        }

    return {"positive": distribution(0.87, 0.01, 3_406), "negative": distribution(0.1, 0.006, 27_122)}


def _final_model(features: list[dict[str, Any]]) -> dict[str, Any]:
    by_code = {f.get("code"): f for f in features}
    planted = [by_code[code] for code, *_ in PLANTED]

    def profile(title: str, contributions: list[tuple[int, str, float]], others: float) -> dict[str, Any]:
        total = -2.4 + others + sum(c for *_, c in contributions)
        probability = 1 / (1 + math.exp(-total))
        return {
            "title": title,
            "synthetic": True,
            "probability": probability,
            "calibrated_probability": 1 / (1 + math.exp(-(0.97 * total - 0.05))),
            "base": -2.4,
            "contributions": [
                {
                    "feature": planted[i]["id"],
                    "words": planted[i]["words"],
                    "value": value,
                    "contribution": c,
                }
                for i, value, c in contributions
            ],
            "others": others,
        }

    return {
        "classifier": "xgboost",
        "setting": {"maxDepth": 4, "nRounds": 200},
        "n_features": 60,
        "n_demographics": 2,
        "cv_auroc": {"value": 0.684, "low": 0.678, "high": 0.69, "method": "DeLong, clustered by patient"},
        "calibrator": {"intercept": -0.05, "slope": 0.97, "reason": None},
        "thresholds": [
            {"rule": "youden", "value": 0.113, "alert_rate": 0.342},
            {"rule": "fixed-alert-rate:0.1", "value": 0.21, "alert_rate": 0.1},
            {"rule": "fixed-sensitivity:0.8", "value": None, "reason": "never reached"},
        ],
        "profiles": [
            profile(
                "High risk",
                [(0, "yes", 0.71), (1, "yes", 0.52), (2, "yes", 0.33), (7, "no", 0.05), (6, "yes", -0.21)],
                0.08,
            ),
            profile("Typical", [(0, "no", -0.13), (1, "no", -0.09), (3, "yes", 0.22)], -0.03),
            profile("Low risk", [(7, "yes", -0.44), (0, "no", -0.13), (1, "no", -0.09)], -0.12),
        ],
        "tests": [
            {"name": "golden rows", "passed": True, "detail": "32 synthetic rows give the same bits"},
            {"name": "score range", "passed": True, "detail": "all probabilities lie in (0, 1)"},
        ],
        "bundle_digest": "5f" * 32,
    }


def _lineage(n_iterations: int, predictive: bool) -> dict[str, Any]:
    return {
        "spec": {
            "cohort": {"outcome": "readmit_30", "index": {"column": "index_date"} if predictive else "none"},
            "features": {"demographics": ["age"]},
            "selection": {"minPrevalence": 0.005, "ranking": "jmi", "nFeatures": 200},
            "validation": {"iterations": n_iterations, "testFraction": 0.3, "folds": 5, "seed": 7},
            "consensus": {"classifier": "glmboost", "minConfidence": 80},
            "report": {"minCell": 11, "realProfiles": False},
        },
        "spec_digest": "ab" * 32,
        "matrix_digest": "cd" * 32,
        "seed": 7,
        "versions": {"mlho-batch": "0.1.0", "numpy": "2.3.0", "xgboost": "3.1.0"},
        "method": "1",
    }
