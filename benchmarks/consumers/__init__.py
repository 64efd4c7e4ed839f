"""What reading vectors and learning from them costs."""
