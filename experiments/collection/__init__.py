"""The page over many runs: a table, parallel axes and comparisons."""
