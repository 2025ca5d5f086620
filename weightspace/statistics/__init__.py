"""Statistics of data that recipes ask for: folds over batches."""
