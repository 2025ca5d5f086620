"""Merges whose coefficients are fitted to data."""
