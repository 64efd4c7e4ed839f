"""The verb `train`: its options, its work and what it says."""
