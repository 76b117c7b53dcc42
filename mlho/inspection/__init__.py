"""Looking at tables before a run: what was found, and what would fail or surprise. Reads headers and samples only."""
