"""Whether a model keeps TensorFlow Hub's API for image tasks."""
