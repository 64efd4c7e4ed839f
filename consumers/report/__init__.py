"""What one is told about a trained classifier: numbers, pictures, doubtful labels, a card."""
