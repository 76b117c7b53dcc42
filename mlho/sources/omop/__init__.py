"""OMOP CDM 5.3 and 5.4: the tables of its folder, and their columns as ours."""
