"""Adaptation at test time."""
