"""Steps that fit, verify and report the final model."""
