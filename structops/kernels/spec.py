"""The list of compute kernels.

A kernel is a function of arrays. The one in ``kernels/reference`` is written in array-API calls
and defines what the name means; compiled versions carry the same name, take the same arguments and
are listed here only where they beat the reference.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class KernelSpec:
    """What a kernel is called, where its versions live and what they take.

    Parameters
    ----------
    name : str
        Name of the function, the same in every folder.
    module : str
        Name of the file, the same in every folder: ``kernels/<folder>/<module>.py``.
    signature : str
        Arguments with named dimensions, and the result.
    compiled : tuple of str
        The compiled versions there are: ``"cpu"`` (NumPy and Numba), ``"gpu"`` (CuPy).
    """

    name: str
    module: str
    signature: str
    compiled: tuple[str, ...] = ("cpu",)


_SPECS = (
    KernelSpec(
        name="kron_apply",
        module="kronecker",
        signature="(factors: tuple of (m_i, n_i) arrays or int n_i, X: (prod n_i, K)) "
        "-> (prod m_i, K)",
    ),
    KernelSpec(
        name="vecchia_conditionals",
        module="vecchia",
        signature="(table: (L,), rows: (R, F, P) int, columns: (R, F, P) int, "
        "members: (T, m + 1) int, noise: (P,), values: (P, Q)) -> (T, m), (T,), (T, Q), (T, m, Q)",
    ),
    KernelSpec(
        name="vecchia_table_gradient",
        module="vecchia",
        signature="(table: (L,), rows: (R, F, P) int, columns: (R, F, P) int, "
        "members: (T, m + 1) int, left: (T, m + 1), right: (T, m + 1)) -> (L,)",
    ),
    KernelSpec(
        name="csr_apply",
        module="vecchia",
        signature="(indptr: (M + 1,) int, indices: (nnz,) int, data: (nnz,), X: (N, K)) -> (M, K)",
    ),
    KernelSpec(
        name="toeplitz_symbol",
        module="toeplitz",
        signature="(lags: (m_1 + n_1 - 1, ..., m_d + n_d - 1), (n_1, ..., n_d), (L_1, ..., L_d), "
        "hermitian: bool) -> (L_1, ..., L_d // 2 + 1) for real lags, (L_1, ..., L_d) for complex",
    ),
    KernelSpec(
        name="toeplitz_apply",
        module="toeplitz",
        signature="(symbol, X: (prod n_i, K), (n_1, ..., n_d), (m_1, ..., m_d), (L_1, ..., L_d), "
        "half: bool) -> (prod m_i, K)",
    ),
    KernelSpec(
        name="prediction_errors",
        module="levinson",
        signature="(lags: (n,), Hermitian) -> (n,) real",
    ),
    KernelSpec(
        name="sine_transform",
        module="toeplitz",
        signature="(X: (n, K), real) -> (n, K)",
    ),
    KernelSpec(
        name="matern_discretize",
        module="state_space",
        signature="(dt: (n,), rate: float, variance: float, decay: (d, d, d), "
        "growth: (d, d, 2 d - 1)) -> (n, d, d), (n, d, d)",
    ),
    KernelSpec(
        name="matern_pull_back",
        module="state_space",
        signature="(A: (n, d, d), Q: (n, d, d), dt: (n,), drift: (d, d), diffusion: (d, d), "
        "bar_A: (n, d, d), bar_Q: (n, d, d)) -> float, float",
    ),
    KernelSpec(
        name="linear_discretize",
        module="state_space",
        signature="(dt: (n,), transition_series: (a, d, d), noise_series: (b, d, d), "
        "radius: float) -> (n, d, d), (n, d, d)",
    ),
    KernelSpec(
        name="kalman_nll",
        module="state_space",
        signature="(A: (n, d, d), Q: (n, d, d), h: (d,), y: (n,), r: (n,), m: (d,), P: (d, d)) "
        "-> float, int, (d,), (d, d)",
    ),
    KernelSpec(
        name="kalman_filter",
        module="state_space",
        signature="(A: (n, d, d), Q: (n, d, d), h: (d,), y: (n,), r: (n,), m: (d,), P: (d, d)) "
        "-> (n, d), (n, d, d), (n, d), (n,), (n,), (n + 1, d), (n + 1, d, d), float, int",
    ),
    KernelSpec(
        name="kalman_adjoint",
        module="state_space",
        signature="(A: (n, d, d), h: (d,), u: (n, d), S: (n,), v: (n,), filtered: (n + 1, d), "
        "covariances: (n + 1, d, d), bar_m: (d,), bar_P: (d, d)) "
        "-> (n, d, d), (n, d, d), (n,), (n,), (d,), (d, d)",
    ),
    KernelSpec(
        name="kalman_smoother",
        module="state_space",
        signature="(A: (n, d, d), h: (d,), means: (n, d), covs: (n, d, d), u: (n, d), S: (n,), "
        "v: (n,), outputs: (c, d), score: (d,), information: (d, d)) "
        "-> (n, c), (n, c), (n,), (n,), (d,), (d, d)",
    ),
    KernelSpec(
        name="causal_sweep",
        module="state_space",
        signature="(A: (n, d, d), h: (d,), g: (n, d), diagonal: (n,), X: (n, K), feedback: bool) "
        "-> (n, K)",
    ),
    KernelSpec(
        name="anticausal_sweep",
        module="state_space",
        signature="(A: (n, d, d), h: (d,), g: (n, d), diagonal: (n,), X: (n, K), feedback: bool) "
        "-> (n, K)",
    ),
)

KERNELS: dict[str, KernelSpec] = {spec.name: spec for spec in _SPECS}
