"""Thresholds, ranks and masks: order statistics by counting, not by sorting."""
