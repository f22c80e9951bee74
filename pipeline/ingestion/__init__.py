"""From what the keys of a file mean to sound molecules, which a store takes."""
