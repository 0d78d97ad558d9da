"""Charts and pages, for report, dashboard and run."""
