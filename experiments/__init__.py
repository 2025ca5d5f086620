"""Experiments: absl mains that read a config, call the library, and write.

Each runs as `python -m experiments.NAME --config=configs/X.py[:mode=tiny]` and
leaves one run folder with one page; the same command resumes it.
"""
