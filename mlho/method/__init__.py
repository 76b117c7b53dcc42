"""The statistical method: arrays in, arrays out. No store keys, no clock, no environment."""
