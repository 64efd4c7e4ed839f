"""A trained head and its extractor as files that other programs read."""
