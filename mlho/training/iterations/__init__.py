"""Selection and fitting inside an iteration or a fold."""
