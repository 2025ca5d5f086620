"""Hosts: how a process starts, the others it works with, values it can read."""
