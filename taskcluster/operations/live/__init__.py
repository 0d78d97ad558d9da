"""Runs followed while they write."""
