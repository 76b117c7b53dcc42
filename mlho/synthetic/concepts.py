"""Descriptions of the synthetic codes, which make tables and reports look like those of real records.

They are combined from lists and do not depend on the effect of a code.
"""

import csv
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Final

from mlho.synthetic.truth import CODE_KINDS, code_name, renamed

_CONDITIONS: Final = (
    "Type 2 diabetes mellitus", "Essential hypertension", "Heart failure", "Atrial fibrillation", "Coronary artery disease",
    "Chronic kidney disease", "Asthma", "Chronic obstructive pulmonary disease", "Pneumonia", "Major depressive disorder",
    "Anxiety disorder", "Hypothyroidism", "Hyperlipidaemia", "Iron deficiency anaemia", "Osteoarthritis of the knee",
    "Osteoporosis", "Rheumatoid arthritis", "Gout", "Low back pain", "Migraine", "Epilepsy", "Parkinson disease",
    "Ischaemic stroke", "Dementia", "Cataract", "Glaucoma", "Hearing loss", "Gastro-oesophageal reflux disease",
    "Diverticular disease", "Irritable bowel syndrome", "Cirrhosis of the liver", "Gallstones", "Acute pancreatitis",
    "Urinary tract infection", "Kidney stones", "Benign prostatic hyperplasia", "Urinary incontinence", "Psoriasis",
    "Atopic dermatitis", "Cellulitis", "Pressure ulcer", "Venous thromboembolism", "Peripheral artery disease",
    "Aortic stenosis", "Syncope", "Fall", "Fracture of the hip", "Fracture of the forearm", "Sleep apnoea", "Obesity",
    "Malnutrition", "Tobacco use disorder", "Alcohol use disorder", "Sepsis", "Influenza", "Breast cancer", "Colon cancer",
    "Prostate cancer", "Lung cancer", "Lymphoma",
)  # fmt: skip
_COURSES: Final = (
    "without complication", "with complication", "unspecified", "follow-up", "chronic", "recurrent", "suspected",
    "in remission", "history of", "screening for",
)  # fmt: skip
_ANALYTES: Final = (
    "Creatinine", "Sodium", "Potassium", "Glucose", "Haemoglobin", "Leukocytes", "Platelets", "C-reactive protein", "Albumin",
    "Alanine aminotransferase", "Bilirubin", "Thyrotropin", "Haemoglobin A1c", "LDL cholesterol", "Troponin I",
    "Natriuretic peptide", "Ferritin", "Vitamin D", "Calcium", "Urea", "Lactate", "D-dimer", "Prothrombin time", "Uric acid",
)  # fmt: skip
_SPECIMENS: Final = ("serum", "plasma", "whole blood", "urine", "capillary blood", "dialysate")
_DRUGS: Final = (
    "Metformin", "Insulin glargine", "Lisinopril", "Amlodipine", "Metoprolol", "Furosemide", "Spironolactone", "Atorvastatin",
    "Apixaban", "Warfarin", "Aspirin", "Clopidogrel", "Salbutamol", "Tiotropium", "Prednisolone", "Omeprazole", "Sertraline",
    "Mirtazapine", "Quetiapine", "Lorazepam", "Gabapentin", "Levetiracetam", "Levodopa", "Levothyroxine", "Allopurinol",
    "Alendronic acid", "Methotrexate", "Amoxicillin", "Ceftriaxone", "Ciprofloxacin", "Oxycodone", "Paracetamol", "Ibuprofen",
    "Folic acid", "Ferrous sulfate", "Tamsulosin",
)  # fmt: skip
_FORMS: Final = ("oral tablet", "oral solution", "injection", "modified-release tablet")
_PROCEDURES: Final = (
    "Electrocardiogram", "Echocardiography", "Chest radiograph", "Computed tomography of the head",
    "Computed tomography of the abdomen", "Magnetic resonance imaging of the spine", "Ultrasound of the abdomen", "Colonoscopy",
    "Gastroscopy", "Bronchoscopy", "Spirometry", "Haemodialysis", "Coronary angiography", "Pacemaker implantation",
    "Cataract surgery", "Hip replacement", "Knee replacement", "Cholecystectomy", "Appendectomy", "Hernia repair",
    "Blood transfusion", "Central venous catheter", "Mechanical ventilation", "Urinary catheter", "Wound debridement",
    "Skin biopsy", "Bone density scan", "Mammography", "Physiotherapy", "Occupational therapy", "Home visit", "Telephone visit",
    "Emergency visit", "Dietary counselling", "Vaccination", "Sleep study",
)  # fmt: skip
_SETTINGS: Final = ("outpatient", "inpatient", "emergency", "follow-up")
_WORDS: Final = {
    "DX": (_CONDITIONS, _COURSES),
    "LAB": (_ANALYTES, _SPECIMENS),
    "RX": (_DRUGS, _FORMS),
    "PX": (_PROCEDURES, _SETTINGS),
}


def descriptions(n_codes: int) -> Iterator[tuple[str, str]]:
    """Yield codes and their descriptions. Codes beyond the end of the lists have none.

    Examples
    --------
    >>> dict(descriptions(10))["LAB:000003"]
    'Creatinine, serum'
    """
    texts = {
        kind: iter(f"{name}, {more}" for more, name in product(others, names))
        for kind, (names, others) in _WORDS.items()
    }
    for number in range(n_codes):
        kind = CODE_KINDS[number % len(CODE_KINDS)]
        text = next(texts[kind], None)
        if text is not None:
            name = code_name(kind, number)
            yield name, text
            if kind == "DX":
                yield renamed(name), text


def write_concepts(path: Path, n_codes: int) -> None:
    """Write the table of concepts (CSV) with the column names of a ``dbmart``."""
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(("phenx", "DESCRIPTION"))
        table.writerows(descriptions(n_codes))
