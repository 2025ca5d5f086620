"""Solvers of alignment: assignments from weights, activations or a loss."""
