"""The command line around Hydra."""
