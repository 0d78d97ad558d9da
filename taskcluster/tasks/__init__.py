"""Tasks, and the families that make them."""
