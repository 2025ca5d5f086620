"""Merges between different bases."""
