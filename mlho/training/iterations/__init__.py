"""Select and fit inside an iteration or a fold."""
