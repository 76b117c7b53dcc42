"""OMOP CDM 5.3 and 5.4: the tables of its folder, with their columns converted to ours."""
