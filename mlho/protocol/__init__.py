"""What the scheduler and a worker agree on: messages, names, scripts and failure classes. No queue library is used here."""
