"""Searches without gradients: evolution, CMA-ES, surrogates, Pareto fronts.

`tuning` and `searches` drive them over the hyper-parameters of recipes, and
`scorers` scores what they propose.
"""
