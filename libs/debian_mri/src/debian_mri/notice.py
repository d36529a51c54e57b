"""What every output says."""

RESEARCH_ONLY = "For research, not for clinical use."
