"""Published merges, a file for each family, under its name in the field."""
