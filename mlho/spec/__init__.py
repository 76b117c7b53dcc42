"""Training and scoring specifications, frozen and hashed."""
