"""From feature vectors with labels to a head: splits, checks, solvers; numbers only, no files."""
