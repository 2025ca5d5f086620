"""Functions compared by what they put out: predictions and representations."""
