"""Multiruns: plan, launch, outcome."""
