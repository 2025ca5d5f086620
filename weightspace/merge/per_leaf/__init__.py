"""Recipes that differ by leaf: by its path, or by the depth of its layer."""
