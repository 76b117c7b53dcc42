"""The method: arrays in, arrays out. No keys, no clock, no environment."""
