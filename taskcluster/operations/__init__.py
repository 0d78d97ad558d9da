"""Start, follow and mirror runs: command line, multiruns, processes, tracking, live page."""
