"""Replicas that train apart and meet."""
