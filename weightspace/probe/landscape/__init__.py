"""The loss along curves and planes, and what it says of a training run."""
