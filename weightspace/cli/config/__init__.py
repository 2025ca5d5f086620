"""The configuration file: its keys, checked, and the numbers that it says."""
