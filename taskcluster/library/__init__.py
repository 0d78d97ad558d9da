"""The library's front door: one's own model, prompts and labels."""
