"""Ways to rank patches by how much they look like lesion."""
