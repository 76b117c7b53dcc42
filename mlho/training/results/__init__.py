"""What all iterations say together: performance, summary, final model, what is published."""
