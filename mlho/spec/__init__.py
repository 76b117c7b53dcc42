"""What the user asks for: training and scoring specifications, frozen and hashed."""
