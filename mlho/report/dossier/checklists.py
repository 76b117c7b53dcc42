"""The checklists of the dossier, item by item. Titles are in our words; the references have the full text.

References
----------
Collins et al. (2024), "TRIPOD+AI statement", BMJ 385:e078378.
Office of the National Coordinator for Health IT (2024), HTI-1 final rule, 45 CFR 170.315(b)(11)(iv): source attributes of
predictive decision support interventions.
Coalition for Health AI (2024), Applied Model Card.
"""

from typing import Final

from mlho.report.dossier import answers as a
from mlho.report.dossier.items import Checklist, Item, Source, statement


def _item(id_: str, title: str, *sources: Source | str, reason: str = "") -> Item:
    """Return an item; a text among the sources names a statement of the author."""
    answers = (statement(source) if isinstance(source, str) else source for source in sources)
    return Item(id_, title, tuple(answers), reason)


TRIPOD_AI: Final = Checklist(
    "tripod-ai",
    "TRIPOD+AI",
    "Collins et al. (2024), BMJ 385:e078378",
    (
        _item("1", "Title: prediction model, population and outcome", a.title),
        _item("2", "Abstract", a.summary),
        _item("3a", "Clinical context and rationale", "background"),
        _item("3b", "Target population and intended purpose in the care pathway", a.intended_use),
        _item("3c", "Known health inequalities", "inequalities"),
        _item("4", "Objectives: development, validation, or both", a.purpose),
        _item("5a", "Sources of data and their representativeness", "dataSource"),
        _item("5b", "Dates of the data", a.dates, a.follow_up),
        _item("6a", "Setting: number and location of centres", "dataSource"),
        _item("6b", "Eligibility of participants", a.attrition, "eligibility"),
        _item("6c", "Treatments received", "treatments"),
        _item("7", "Preparation of the data and checks of their quality", a.preparation),
        _item("8a", "Outcome, its time horizon and assessment", a.outcome_definition, a.follow_up),
        _item("8b", "Qualification of outcome assessors, if subjective", "outcomeAssessment"),
        _item("8c", "Blinding of the outcome assessment", "outcomeAssessment"),
        _item("9a", "Choice of initial predictors", a.predictors),
        _item("9b", "Definition of predictors, how and when measured", a.predictors),
        _item(
            "9c",
            "Qualification of predictor assessors, if subjective",
            reason="Predictors are recorded codes and values.",
        ),
        _item("10", "Sample size", a.sample_size),
        _item("11", "Missing data", a.missing_values),
        _item("12a", "Use of the data: development and evaluation", a.methods),
        _item("12b", "Handling of predictors in the analysis", a.predictors),
        _item("12c", "Type of model, building and tuning, internal validation", a.methods),
        _item("12d", "Heterogeneity between clusters such as hospitals", a.evaluated_groups),
        _item("12e", "Measures of performance", a.performance),
        _item("12f", "Updating of the model", "updating"),
        _item("12g", "Calculation of predictions", a.specification),
        _item("13", "Class imbalance", a.imbalance),
        _item("14", "Approaches to fairness", a.evaluated_groups, "fairnessApproach"),
        _item("15", "Output of the model and its thresholds", a.output),
        _item("16", "Differences between development and evaluation data", a.methods, "localRelevance"),
        _item("17", "Ethical approval", "ethics"),
        _item("18a", "Funding", "funding"),
        _item("18b", "Conflicts of interest", "conflictsOfInterest"),
        _item("18c", "Protocol", "protocol"),
        _item("18d", "Registration", "protocol"),
        _item("18e", "Availability of the data", "dataAvailability"),
        _item("18f", "Availability of the code", a.code),
        _item("19", "Patient and public involvement", "patientInvolvement"),
        _item("20a", "Flow of participants, with and without the outcome", a.attrition, a.population),
        _item("20b", "Characteristics of participants", a.characteristics),
        _item("20c", "Comparison with the development data", "externalValidation"),
        _item("21", "Participants and outcome events in each analysis", a.population),
        _item("22", "Full model specification", a.specification),
        _item("23a", "Performance with intervals, also in key subgroups", a.performance, a.group_performance),
        _item("23b", "Heterogeneity of performance between clusters", a.group_performance),
        _item("24", "Results of model updating", "updating"),
        _item("25", "Interpretation, including fairness", "interpretation"),
        _item("26", "Limitations", a.warnings, "limitations"),
        _item("27a", "Handling of poor or missing input in use", "nextSteps"),
        _item("27b", "Interaction with users and their expertise", "nextSteps"),
        _item("27c", "Next steps for research", "nextSteps"),
    ),
)

SOURCE_ATTRIBUTES: Final = Checklist(
    "hti-1",
    "HTI-1 source attributes",
    "45 CFR 170.315(b)(11)(iv)(B)",
    (
        _item("1.1", "Developer and contact", "contact"),
        _item("1.2", "Funding of the technical implementation", "funding"),
        _item("1.3", "Value that the intervention produces as output", a.output, "outputValue"),
        _item("1.4", "Kind of output: prediction, classification, recommendation", a.output),
        _item("2.1", "Intended use", a.intended_use),
        _item("2.2", "Intended patient population", a.intended_use),
        _item("2.3", "Intended users", a.intended_use),
        _item("2.4", "Intended role in the decision", "decisionRole"),
        _item("3.1", "Tasks, situations and populations out of scope", "outOfScope"),
        _item("3.2", "Known risks, inappropriate settings and limitations", "knownRisks", a.warnings),
        _item("4.1", "Inclusion and exclusion criteria of the training data", a.attrition, "eligibility"),
        _item(
            "4.2", "Use of race, ethnicity, sex and other sensitive variables as input", a.sensitive_inputs
        ),
        _item("4.3", "Demographic representativeness of the training data", a.characteristics, "dataSource"),
        _item("4.4", "Relevance of the training data to the setting of use", "localRelevance"),
        _item("5.1", "Approach to a fair output", "fairnessApproach"),
        _item("5.2", "Approaches to manage, reduce or eliminate bias", "biasManagement", a.evaluated_groups),
        _item("6.1", "External validation: data and setting", "externalValidation"),
        _item("6.2", "External validation: who did it", "externalValidation"),
        _item("6.3", "External validation: demographic representativeness", "externalValidation"),
        _item("6.4", "External validation: process", "externalValidation"),
        _item("7.1", "Validity in test data of the same source", a.performance),
        _item("7.2", "Fairness in test data of the same source", a.group_performance),
        _item("7.3", "Validity in external data", "externalValidation"),
        _item("7.4", "Fairness in external data", "externalValidation"),
        _item("7.5", "Evaluation of the use for outcomes of care", "useEvaluation"),
        _item("8.1", "Monitoring of validity: process and frequency", "monitoring", a.model_tests),
        _item("8.2", "Validity in local data", "localValidation"),
        _item("8.3", "Monitoring of fairness: process and frequency", "monitoring"),
        _item("8.4", "Fairness in local data", "localValidation"),
        _item("9.1", "Updates: process and frequency", "updating"),
        _item("9.2", "Correction when validity or fairness risks are found", "updating"),
    ),
)

APPLIED_MODEL_CARD: Final = Checklist(
    "chai",
    "CHAI applied model card",
    "Coalition for Health AI (2024)",
    (
        _item("1", "Name, developer and contact", a.title, "contact"),
        _item("2", "Summary", a.summary),
        _item("3", "Intended use, users and patients", a.intended_use),
        _item("4", "Use in the workflow", "decisionRole"),
        _item("5", "Cautioned out-of-scope settings and uses", "outOfScope"),
        _item("6", "Known risks and limitations", "knownRisks", a.warnings),
        _item("7", "Known biases", a.group_performance, "inequalities"),
        _item("8", "Outcome and output", a.outcome_definition, a.output),
        _item("9", "Type of model and input data", a.methods, a.predictors),
        _item("10", "Characteristics of the development data", a.population, a.characteristics),
        _item("11", "Mitigation of bias", "biasManagement"),
        _item("12", "Maintenance: monitoring and updates", "monitoring", "updating"),
        _item("13", "Transparency: funding and conflicts of interest", "funding", "conflictsOfInterest"),
        _item("14", "Usefulness, usability and efficacy", a.performance, "useEvaluation"),
        _item("15", "Fairness and equity", a.group_performance),
        _item("16", "Safety and reliability", a.model_tests, a.stability),
        _item("17", "Evaluation on external and local data", "externalValidation", "localValidation"),
    ),
)

CHECKLISTS: Final = (TRIPOD_AI, SOURCE_ATTRIBUTES, APPLIED_MODEL_CARD)
