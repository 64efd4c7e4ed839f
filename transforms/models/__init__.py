"""Any published form of an image model to one callable."""
