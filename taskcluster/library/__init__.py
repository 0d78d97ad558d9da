"""The library: observe your own model with your own prompts and labels."""
