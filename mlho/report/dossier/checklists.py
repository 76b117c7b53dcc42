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
from mlho.report.dossier.items import Checklist, Item, statement

TRIPOD_AI: Final = Checklist(
    "tripod-ai",
    "TRIPOD+AI",
    "Collins et al. (2024), BMJ 385:e078378",
    (
        Item("1", "Title: prediction model, population and outcome", (a.title,)),
        Item("2", "Abstract", (a.summary,)),
        Item("3a", "Clinical context and rationale", (statement("background"),)),
        Item("3b", "Target population and intended purpose in the care pathway", (a.intended_use,)),
        Item("3c", "Known health inequalities", (statement("inequalities"),)),
        Item("4", "Objectives: development, validation, or both", (a.purpose,)),
        Item("5a", "Sources of data and their representativeness", (statement("dataSource"),)),
        Item("5b", "Dates of the data", (a.dates, a.follow_up)),
        Item("6a", "Setting: number and location of centres", (statement("dataSource"),)),
        Item("6b", "Eligibility of participants", (a.attrition, statement("eligibility"))),
        Item("6c", "Treatments received", (statement("treatments"),)),
        Item("7", "Preparation of the data and checks of their quality", (a.preparation,)),
        Item("8a", "Outcome, its time horizon and assessment", (a.outcome_definition, a.follow_up)),
        Item("8b", "Qualification of outcome assessors, if subjective", (statement("outcomeAssessment"),)),
        Item("8c", "Blinding of the outcome assessment", (statement("outcomeAssessment"),)),
        Item("9a", "Choice of initial predictors", (a.predictors,)),
        Item("9b", "Definition of predictors, how and when measured", (a.predictors,)),
        Item(
            "9c",
            "Qualification of predictor assessors, if subjective",
            reason="Predictors are recorded codes and values.",
        ),
        Item("10", "Sample size", (a.sample_size,)),
        Item("11", "Missing data", (a.missing_values,)),
        Item("12a", "Use of the data: development and evaluation", (a.methods,)),
        Item("12b", "Handling of predictors in the analysis", (a.predictors,)),
        Item("12c", "Type of model, building and tuning, internal validation", (a.methods,)),
        Item("12d", "Heterogeneity between clusters such as hospitals", (a.evaluated_groups,)),
        Item("12e", "Measures of performance", (a.performance,)),
        Item("12f", "Updating of the model", (statement("updating"),)),
        Item("12g", "Calculation of predictions", (a.specification,)),
        Item("13", "Class imbalance", (a.imbalance,)),
        Item("14", "Approaches to fairness", (a.evaluated_groups, statement("fairnessApproach"))),
        Item("15", "Output of the model and its thresholds", (a.output,)),
        Item(
            "16",
            "Differences between development and evaluation data",
            (a.methods, statement("localRelevance")),
        ),
        Item("17", "Ethical approval", (statement("ethics"),)),
        Item("18a", "Funding", (statement("funding"),)),
        Item("18b", "Conflicts of interest", (statement("conflictsOfInterest"),)),
        Item("18c", "Protocol", (statement("protocol"),)),
        Item("18d", "Registration", (statement("protocol"),)),
        Item("18e", "Availability of the data", (statement("dataAvailability"),)),
        Item("18f", "Availability of the code", (a.code,)),
        Item("19", "Patient and public involvement", (statement("patientInvolvement"),)),
        Item("20a", "Flow of participants, with and without the outcome", (a.attrition, a.population)),
        Item("20b", "Characteristics of participants", (a.characteristics,)),
        Item("20c", "Comparison with the development data", (statement("externalValidation"),)),
        Item("21", "Participants and outcome events in each analysis", (a.population,)),
        Item("22", "Full model specification", (a.specification,)),
        Item(
            "23a", "Performance with intervals, also in key subgroups", (a.performance, a.group_performance)
        ),
        Item("23b", "Heterogeneity of performance between clusters", (a.group_performance,)),
        Item("24", "Results of model updating", (statement("updating"),)),
        Item("25", "Interpretation, including fairness", (statement("interpretation"),)),
        Item("26", "Limitations", (a.warnings, statement("limitations"))),
        Item("27a", "Handling of poor or missing input in use", (statement("nextSteps"),)),
        Item("27b", "Interaction with users and their expertise", (statement("nextSteps"),)),
        Item("27c", "Next steps for research", (statement("nextSteps"),)),
    ),
)

SOURCE_ATTRIBUTES: Final = Checklist(
    "hti-1",
    "HTI-1 source attributes",
    "45 CFR 170.315(b)(11)(iv)(B)",
    (
        Item("1.1", "Developer and contact", (statement("contact"),)),
        Item("1.2", "Funding of the technical implementation", (statement("funding"),)),
        Item("1.3", "Value that the intervention produces as output", (a.output, statement("outputValue"))),
        Item("1.4", "Kind of output: prediction, classification, recommendation", (a.output,)),
        Item("2.1", "Intended use", (a.intended_use,)),
        Item("2.2", "Intended patient population", (a.intended_use,)),
        Item("2.3", "Intended users", (a.intended_use,)),
        Item("2.4", "Intended role in the decision", (statement("decisionRole"),)),
        Item("3.1", "Tasks, situations and populations out of scope", (statement("outOfScope"),)),
        Item(
            "3.2",
            "Known risks, inappropriate settings and limitations",
            (statement("knownRisks"), a.warnings),
        ),
        Item(
            "4.1",
            "Inclusion and exclusion criteria of the training data",
            (a.attrition, statement("eligibility")),
        ),
        Item(
            "4.2", "Use of race, ethnicity, sex and other sensitive variables as input", (a.sensitive_inputs,)
        ),
        Item(
            "4.3",
            "Demographic representativeness of the training data",
            (a.characteristics, statement("dataSource")),
        ),
        Item("4.4", "Relevance of the training data to the setting of use", (statement("localRelevance"),)),
        Item("5.1", "Approach to a fair output", (statement("fairnessApproach"),)),
        Item(
            "5.2",
            "Approaches to manage, reduce or eliminate bias",
            (statement("biasManagement"), a.evaluated_groups),
        ),
        Item("6.1", "External validation: data and setting", (statement("externalValidation"),)),
        Item("6.2", "External validation: who did it", (statement("externalValidation"),)),
        Item(
            "6.3", "External validation: demographic representativeness", (statement("externalValidation"),)
        ),
        Item("6.4", "External validation: process", (statement("externalValidation"),)),
        Item("7.1", "Validity in test data of the same source", (a.performance,)),
        Item("7.2", "Fairness in test data of the same source", (a.group_performance,)),
        Item("7.3", "Validity in external data", (statement("externalValidation"),)),
        Item("7.4", "Fairness in external data", (statement("externalValidation"),)),
        Item("7.5", "Evaluation of the use for outcomes of care", (statement("useEvaluation"),)),
        Item(
            "8.1", "Monitoring of validity: process and frequency", (statement("monitoring"), a.model_tests)
        ),
        Item("8.2", "Validity in local data", (statement("localValidation"),)),
        Item("8.3", "Monitoring of fairness: process and frequency", (statement("monitoring"),)),
        Item("8.4", "Fairness in local data", (statement("localValidation"),)),
        Item("9.1", "Updates: process and frequency", (statement("updating"),)),
        Item("9.2", "Correction when validity or fairness risks are found", (statement("updating"),)),
    ),
)

APPLIED_MODEL_CARD: Final = Checklist(
    "chai",
    "CHAI applied model card",
    "Coalition for Health AI (2024)",
    (
        Item("1", "Name, developer and contact", (a.title, statement("contact"))),
        Item("2", "Summary", (a.summary,)),
        Item("3", "Intended use, users and patients", (a.intended_use,)),
        Item("4", "Use in the workflow", (statement("decisionRole"),)),
        Item("5", "Cautioned out-of-scope settings and uses", (statement("outOfScope"),)),
        Item("6", "Known risks and limitations", (statement("knownRisks"), a.warnings)),
        Item("7", "Known biases", (a.group_performance, statement("inequalities"))),
        Item("8", "Outcome and output", (a.outcome_definition, a.output)),
        Item("9", "Type of model and input data", (a.methods, a.predictors)),
        Item("10", "Characteristics of the development data", (a.population, a.characteristics)),
        Item("11", "Mitigation of bias", (statement("biasManagement"),)),
        Item("12", "Maintenance: monitoring and updates", (statement("monitoring"), statement("updating"))),
        Item(
            "13",
            "Transparency: funding and conflicts of interest",
            (statement("funding"), statement("conflictsOfInterest")),
        ),
        Item("14", "Usefulness, usability and efficacy", (a.performance, statement("useEvaluation"))),
        Item("15", "Fairness and equity", (a.group_performance,)),
        Item("16", "Safety and reliability", (a.model_tests, a.stability)),
        Item(
            "17",
            "Evaluation on external and local data",
            (statement("externalValidation"), statement("localValidation")),
        ),
    ),
)

CHECKLISTS: Final = (TRIPOD_AI, SOURCE_ATTRIBUTES, APPLIED_MODEL_CARD)
