"""Averages over a training run."""
