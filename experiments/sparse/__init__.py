"""Masks: what is pruned, searched, kept apart, and trained alone."""
