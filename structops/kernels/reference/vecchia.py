"""Vecchia's approximation: many small Gaussian conditionals at once (array API).

Throughout, P points have covariance

    k(i, j) = sum_r prod_f table[rows[r, f, i] + columns[r, f, j]],

and a term t is the conditional distribution of its last member given the others:

* ``table``: (L,) float, lookup table; ``rows``, ``columns``: (R, F, P) integers.
* ``members``: (T, m + 1) integers, the m neighbours of a term and, last, the point itself; -1 in
  place of a neighbour means that there is none.
"""

from __future__ import annotations

from typing import Any

from structops.namespace import array_namespace


def vecchia_conditionals(table, rows, columns, members, noise, values) -> tuple[Any, ...]:
    """Condition the last member of every term on the others.

    With N the neighbours and i the point of a term, and C = K_NN + diag(noise_N):

    Parameters
    ----------
    table, rows, columns, members
        See the module.
    noise : array, shape (P,)
        Variances added to the neighbours' diagonal (not to the point's).
    values : array, shape (P, Q)
        Q columns to predict.

    Returns
    -------
    weights : array, shape (T, m)
        C⁻¹ k_Ni.
    variances : array, shape (T,)
        k_ii - k_iN C⁻¹ k_Ni.
    residuals : array, shape (T, Q)
        values_i - weightsᵀ values_N.
    duals : array, shape (T, m, Q)
        C⁻¹ values_N.
    """
    xp = array_namespace(table)
    present, points = _present(xp, members)
    blocks = _blocks(xp, table, rows, columns, points)
    mask = xp.astype(present, table.dtype)
    blocks = blocks * mask[:, :, None] * mask[:, None, :]
    own = _take_rows(xp, values, points[:, -1])
    known = _take_rows(xp, values, points[:, :-1]) * mask[:, :-1, None]
    m = members.shape[1] - 1
    diagonal = mask[:, :-1] * _take(xp, noise, points[:, :-1]) + (1.0 - mask[:, :-1])
    C = blocks[:, :m, :m] + diagonal[:, :, None] * xp.eye(m, dtype=table.dtype)
    solution = xp.linalg.solve(C, xp.concat([blocks[:, :m, m:], known], axis=2))
    weights, duals = solution[:, :, 0], solution[:, :, 1:]
    variances = blocks[:, m, m] - xp.sum(weights * blocks[:, :m, m], axis=1)
    residuals = own - xp.sum(weights[:, :, None] * known, axis=1)
    return weights, variances, residuals, duals


def vecchia_table_gradient(table, rows, columns, members, left, right) -> Any:
    """Derivative of sum_t left_tᵀ K_t right_t with respect to the table.

    K_t is the covariance matrix of all m + 1 members of term t; it is symmetric, and the two
    entries of a pair are booked together under the address of (earlier, later) member. A scalar
    product of the result with a derivative of the (symmetric) table is therefore exact.

    Parameters
    ----------
    table, rows, columns, members
        See the module.
    left, right : arrays, shape (T, m + 1)
        Coefficients of the members.

    Returns
    -------
    array, shape (L,)
    """
    xp = array_namespace(table)
    present, points = _present(xp, members)
    size = members.shape[1]
    keep = xp.astype(present[:, :, None] & present[:, None, :], table.dtype)
    outer = left[:, :, None] * right[:, None, :]
    both = outer + xp.permute_dims(outer, (0, 2, 1))
    seeds = xp.triu(both, k=1) + outer * xp.eye(size, dtype=table.dtype)
    seeds = seeds * keep
    total = xp.zeros(table.shape, dtype=table.dtype)
    for r in range(rows.shape[0]):
        addresses = _factor_addresses(xp, rows, columns, r, points)
        entries = [_take(xp, table, address) for address in addresses]
        for f, address in enumerate(addresses):
            part = seeds
            for g, entry in enumerate(entries):
                part = part * entry if g != f else part
            total = total + _scatter_sum(xp, address, part, table.shape[0])
    return total


def csr_apply(indptr, indices, data, X) -> Any:
    """Product of a sparse matrix in compressed rows and a block.

    Parameters
    ----------
    indptr : array of int, shape (M + 1,)
    indices : array of int, shape (nnz,)
    data : array, shape (nnz,)
    X : array, shape (N, K)

    Returns
    -------
    array, shape (M, K)
    """
    xp = array_namespace(X)
    products = data[:, None] * xp.take(X, indices, axis=0)
    start = xp.zeros((1, X.shape[1]), dtype=products.dtype)
    running = xp.concat([start, xp.cumulative_sum(products, axis=0)], axis=0)
    return xp.take(running, indptr[1:], axis=0) - xp.take(running, indptr[:-1], axis=0)


def _present(xp, members):
    """Which members exist, and indices that are valid also where none does."""
    present = members >= 0
    return present, xp.where(present, members, members[:, -1:])


def _factor_addresses(xp, rows, columns, r, points):
    """Addresses of all pairs of members, (T, m + 1, m + 1), for each factor of summand r."""
    return [
        _take(xp, rows[r, f, :], points)[:, :, None]
        + _take(xp, columns[r, f, :], points)[:, None, :]
        for f in range(rows.shape[1])
    ]


def _blocks(xp, table, rows, columns, points):
    total = None
    for r in range(rows.shape[0]):
        product = None
        for address in _factor_addresses(xp, rows, columns, r, points):
            factor = _take(xp, table, address)
            product = factor if product is None else product * factor
        total = product if total is None else total + product
    return total


def _take(xp, array, index):
    """``array[index]`` for a one-dimensional array and an index of any shape."""
    return xp.reshape(xp.take(array, xp.reshape(index, (-1,))), index.shape)


def _take_rows(xp, array, index):
    flat = xp.take(array, xp.reshape(index, (-1,)), axis=0)
    return xp.reshape(flat, (*index.shape, array.shape[1]))


def _scatter_sum(xp, address, values, length):
    """Sum values that share an address, by sorting: the array API has no scatter."""
    address, values = xp.reshape(address, (-1,)), xp.reshape(values, (-1,))
    order = xp.argsort(address)
    zero = xp.zeros(1, dtype=values.dtype)
    running = xp.concat([zero, xp.cumulative_sum(xp.take(values, order))])
    cells = xp.arange(length, dtype=address.dtype)
    address = xp.take(address, order)
    ends = xp.searchsorted(address, cells, side="right")
    starts = xp.searchsorted(address, cells, side="left")
    return xp.take(running, ends) - xp.take(running, starts)
