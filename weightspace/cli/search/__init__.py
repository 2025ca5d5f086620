"""Searches over the numbers of a merge, and the scores that guide them."""
