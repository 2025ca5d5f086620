"""Data-free merges of task vectors."""
