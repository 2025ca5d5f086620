"""Curvature: Hessian, Gauss-Newton and Fisher as operators, with spectra."""
