"""What the vectors are for; it knows the dataset's format and not Beam's graph."""
