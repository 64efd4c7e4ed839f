"""From a loaded model to a function on image batches; one module for each engine."""
