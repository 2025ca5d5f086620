"""The models of a merge: found, opened, and adapted where they are adapters."""
