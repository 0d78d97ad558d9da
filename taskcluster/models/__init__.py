"""Causal language models: made, trained, read and edited."""
