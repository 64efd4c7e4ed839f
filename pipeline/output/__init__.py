"""An output directory: who works on it, what lies in it, how it changes."""
