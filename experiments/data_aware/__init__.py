"""Merges that look at data."""
