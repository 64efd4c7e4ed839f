"""Fine-tuning: a published model and its head, trained together from images."""
