"""Many runs: aggregates, statistics, claims and tables."""
