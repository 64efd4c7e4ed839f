"""What a run has to do."""
