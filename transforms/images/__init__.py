"""Encoded images to pixels, with limits that are checked before any work."""
