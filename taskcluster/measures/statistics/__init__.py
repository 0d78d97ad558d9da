"""Agreement of labellings and linear probes, from arrays."""
