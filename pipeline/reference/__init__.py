"""Reference data out of structures: what a calculation gives of each molecule."""
