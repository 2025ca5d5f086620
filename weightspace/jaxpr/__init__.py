"""What a function's program says of its parameters: the jaxpr, read.

`graph` inlines a program and splits it where it stops to be linear in the
parameters; `linear_maps` and `weight_products` find where a leaf multiplies a
value; `leaf_labels` says what its axes mean; `flops` counts operations;
`convolutions` rewrites those that XLA runs slowly inside loops.
"""
