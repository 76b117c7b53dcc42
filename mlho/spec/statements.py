"""Statements for the dossier of a run: facts that no program can know. Not part of the run id."""

from typing import Annotated

from pydantic import Field

from mlho.spec.types import SpecPart

_Statement = Annotated[str, Field(min_length=1, max_length=4000)] | None


class Statements(SpecPart):
    """Statements that a person must make for ``mlho dossier``. The dossier shows an omitted field as open."""

    contact: _Statement = None
    """Developer of the model and contact for questions."""
    funding: _Statement = None
    """Funding, and the role of the funders."""
    conflicts_of_interest: _Statement = None
    """Conflicts of interest of the authors."""
    background: _Statement = None
    """Clinical context and rationale, with references to existing models."""
    inequalities: _Statement = None
    """Known health inequalities between groups of patients."""
    data_source: _Statement = None
    """Origin of the data: sites, care settings, purpose of recording, representativeness."""
    eligibility: _Statement = None
    """Inclusion and exclusion criteria applied before the tables were written."""
    treatments: _Statement = None
    """Treatments that patients received, and how they were handled."""
    outcome_assessment: _Statement = None
    """How and by whom the outcome was assessed, and whether they knew the predictors."""
    out_of_scope: _Statement = None
    """Uses and patients for which the model must not be used."""
    known_risks: _Statement = None
    """Known risks, and inappropriate settings and uses."""
    decision_role: _Statement = None
    """Role in the decision: informs, augments or replaces clinical judgement; the action after a high score."""
    output_value: _Statement = None
    """Benefit that the output is expected to give."""
    fairness_approach: _Statement = None
    """Measures during development to make the model perform equally for all groups."""
    bias_management: _Statement = None
    """Measures against bias that remains."""
    local_relevance: _Statement = None
    """Relevance of the training data to the setting where the model is to be used."""
    external_validation: _Statement = None
    """External validation: the data, who performed it, how representative the data are, and the results."""
    local_validation: _Statement = None
    """Validity and fairness in data from the setting of use."""
    use_evaluation: _Statement = None
    """References to evaluations of how use of the model affects outcomes of care."""
    monitoring: _Statement = None
    """Process and frequency of monitoring validity and fairness in use."""
    updating: _Statement = None
    """Process and frequency of updates, and of corrections when risks are found."""
    ethics: _Statement = None
    """Ethical approval and consent."""
    protocol: _Statement = None
    """Location of the study protocol and the registration."""
    data_availability: _Statement = None
    """Availability of the data."""
    patient_involvement: _Statement = None
    """Involvement of patients and the public."""
    interpretation: _Statement = None
    """Interpretation of the main results, including fairness, compared with earlier studies."""
    limitations: _Statement = None
    """Limitations of the study beyond those that the report states."""
    next_steps: _Statement = None
    """Tasks before use: handling of poor input, interaction with users, expertise, further research."""
