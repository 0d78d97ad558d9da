"""Training objectives: losses, attention masks, stopped gradients, auxiliary losses."""
