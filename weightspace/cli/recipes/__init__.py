"""From the names of methods to recipes, leaf by leaf."""
