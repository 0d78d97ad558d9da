"""Multiruns: their plan, their launchers, and what came of them."""
