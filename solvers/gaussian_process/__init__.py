"""Gaussian processes whose covariance matrices have structure."""
