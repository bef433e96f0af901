"""Levinson and Durbin's recursion for Hermitian positive definite Toeplitz matrices."""

from __future__ import annotations

from structops.namespace import array_namespace


def prediction_errors(lags):
    """Pivots of the LDLᴴ factorisation of a Hermitian Toeplitz matrix.

    As a covariance matrix of a stationary sequence: error k is the variance of entry k given the
    entries before it. The determinant is their product.

    Parameters
    ----------
    lags : array, shape (n,)
        First column t; t[0] real.

    Returns
    -------
    array, shape (n,)
        Real. From the first one that is not positive on, the errors mean nothing.

    References
    ----------
    J. Durbin, "The fitting of time-series models", Rev. Int. Stat. Inst. 28 (1960), in the form of
    G. H. Golub and C. F. Van Loan, "Matrix Computations", 4th ed., algorithm 4.7.1.
    """
    xp = array_namespace(lags)
    predictor, errors = lags[:0], [xp.real(lags[0]) if _is_complex(xp, lags) else lags[0]]
    for k in range(1, lags.shape[0]):
        # reflection coefficient; the predictor of order k + 1 from that of order k
        correlation = lags[k] + xp.sum(predictor * xp.flip(lags[1:k]))
        reflection = -correlation / errors[-1]
        grown = predictor + reflection * xp.conj(xp.flip(predictor))
        predictor = xp.concat([grown, xp.reshape(reflection, (1,))])
        errors.append(errors[-1] * (1.0 - xp.abs(reflection) ** 2))
    return xp.stack(errors)


def _is_complex(xp, x):
    return bool(xp.isdtype(x.dtype, "complex floating"))
