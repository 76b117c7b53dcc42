"""The dossier of a run: reporting checklists, answered from its result and from the statements of its author."""
