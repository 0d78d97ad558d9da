"""Tasks as prompts, tokens and batches."""
