"""What makes, measures and documents omni-msa: run from the root of the repository, with -m."""
