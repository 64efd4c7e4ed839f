"""Whether an output is whole and still what would be computed."""
