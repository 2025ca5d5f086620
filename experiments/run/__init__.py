"""The harness: a config becomes a run folder, a result, a page, a verdict."""
