"""From the parts of a finished run to what the libraries of a consumer take."""
