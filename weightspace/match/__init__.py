"""Matching: the symmetry of a model, and models aligned up to it."""
