"""Numerics: exact counts, the k largest, random bits, cosines of any scale."""
