"""The static site of a store: facts of its runs, and the pages that show them."""
