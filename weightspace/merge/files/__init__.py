"""Recipes over files: leaf by leaf, in slices of memory, over a mesh."""
