"""What this process runs on: its cores, and TensorFlow in it."""
