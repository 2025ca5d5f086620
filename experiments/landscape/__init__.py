"""Loss landscapes: connectivity, sharpness and its laws, grokking."""
