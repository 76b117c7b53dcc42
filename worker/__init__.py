"""Program 2: takes one task at a time and runs its step."""
