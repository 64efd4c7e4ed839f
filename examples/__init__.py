"""Short programs around the pipeline."""
