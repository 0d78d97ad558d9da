"""Agreement of labellings, linear probes and geometry, from arrays."""
