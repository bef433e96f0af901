"""Sparse Bayesian learning: sparse coefficients with the posterior of each."""
