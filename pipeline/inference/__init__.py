"""What the keys of a file mean: shapes propose, physics decides."""
