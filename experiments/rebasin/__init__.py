"""Git Re-Basin and what repairs it."""
