"""What is in a store, and whether it is sound."""
