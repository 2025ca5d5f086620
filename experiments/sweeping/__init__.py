"""Sweeps: units of work, the board that hands them out, and launchers."""
