"""Averages over time: windows and decays of one training run, their schedules,
and adaptation at test time."""
