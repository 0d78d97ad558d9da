"""Follow runs while they write."""
