"""What people have: listed to image refs, and refs read back as encoded images."""
