"""Weights as data, data from weights: studies of `ws.generate` and AdamP."""
