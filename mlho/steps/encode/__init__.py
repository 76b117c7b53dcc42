"""Steps from events to the packed matrix, and the ledger that accounts for every row."""
