"""The output's format: its files, its columns, its parts, its snapshot."""
