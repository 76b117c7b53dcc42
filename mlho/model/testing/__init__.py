"""The tests that a bundle carries: written when it is built, run wherever it is used."""
