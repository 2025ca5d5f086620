"""Probes: the loss around points of weight space."""
