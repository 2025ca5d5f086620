"""Averages over time and over replicas."""
