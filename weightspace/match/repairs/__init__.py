"""Repair after alignment: statistics reset layer by layer, scales, singular
directions, and units merged within a model."""
