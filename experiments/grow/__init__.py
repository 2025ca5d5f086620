"""Networks of other sizes: sliced, repeated, side by side, assembled."""
