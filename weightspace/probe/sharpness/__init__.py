"""Sharpness by its definitions: worst cases, averages, boxes, Langevin."""
