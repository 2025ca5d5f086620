"""Parametrizations: what a leaf that is computed from others is good for."""
