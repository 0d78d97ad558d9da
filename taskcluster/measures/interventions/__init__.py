"""Interventions: pairs of prompts, sites, edits, and their effects."""
