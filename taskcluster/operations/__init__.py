"""How runs are started, followed and mirrored: command line, multiruns, processes, tracking, live page."""
