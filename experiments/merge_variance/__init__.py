"""Variance and bias of merged models."""
