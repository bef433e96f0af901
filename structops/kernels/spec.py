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
        name="condition_blocks",
        module="vecchia_points",
        signature="(pairs: (s (s + 1) / 2, T), values: (s, Q, T)) "
        "-> (s - 1, T), (T,), (Q, T), (s - 1, Q, T)",
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
        name="sketch_block",
        module="sketching",
        signature="(key: int, distribution: str, rows: (int, int), columns: (int, int), dtype) "
        "-> (rows, columns) of NumPy",
    ),
    KernelSpec(
        name="sparse_codes",
        module="sketching",
        signature="(key: int, rows_per_block: int, blocks: int, start: int, stop: int) "
        "-> (stop - start, blocks) int32 of NumPy",
    ),
    KernelSpec(
        name="signed_sum",
        module="sketching",
        signature="(codes: (n, s) int32, X: (n, K), m: int) -> (m, K)",
    ),
    KernelSpec(
        name="signed_gather",
        module="sketching",
        signature="(codes: (n, s) int32, Y: (m, K)) -> (n, K)",
    ),
    KernelSpec(
        name="walsh_hadamard_rows",
        module="sketching",
        signature="(signs: (n,) int8, samples: (m,) int, X: (n, K), start: int) -> (m, K)",
    ),
    KernelSpec(
        name="walsh_hadamard_rows_adjoint",
        module="sketching",
        signature="(signs: (n,) int8, samples: (m,) int, Y: (m, K), start: int) -> (n, K)",
    ),
    KernelSpec(
        name="fwht",
        module="sketching",
        signature="(X: (N, K), N a power of two) -> (N, K)",
    ),
    KernelSpec(
        name="cosine_transform",
        module="sketching",
        signature="(X: (n, K), real) -> (n, K)",
    ),
    KernelSpec(
        name="inverse_cosine_transform",
        module="sketching",
        signature="(Y: (n, K), real) -> (n, K)",
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
        module="discretization",
        signature="(dt: (n,), rate: float, variance: float, decay: (d, d, d), "
        "growth: (d, d, 2 d - 1)) -> (n, d, d), (n, d, d)",
    ),
    KernelSpec(
        name="matern_pull_back",
        module="discretization",
        signature="(A: (n, d, d), Q: (n, d, d), dt: (n,), drift: (d, d), diffusion: (d, d), "
        "bar_A: (n, d, d), bar_Q: (n, d, d)) -> float, float",
    ),
    KernelSpec(
        name="linear_discretize",
        module="discretization",
        signature="(dt: (n,), transition_series: (a, d, d), noise_series: (b, d, d), "
        "radius: float) -> (n, d, d), (n, d, d)",
    ),
    KernelSpec(
        name="linear_pull_back",
        module="discretization",
        signature="(dt: (n,), transition_series: (a, d, d), noise_series: (b, d, d), "
        "radius: float, bar_A: (n, d, d), bar_Q: (n, d, d)) -> (a, d, d), (b, d, d)",
    ),
    KernelSpec(
        name="product_transition",
        module="discretization",
        signature="(A1: (n, c, c), A2: (n, d, d)) -> (n, c d, c d)",
    ),
    KernelSpec(
        name="product_transition_pull_back",
        module="discretization",
        signature="(A1: (n, c, c), A2: (n, d, d), bar_A: (n, c d, c d)) -> (n, c, c), (n, d, d)",
    ),
    KernelSpec(
        name="product_discretize",
        module="discretization",
        signature="(A1: (n, c, c), Q1: (n, c, c), P1: (c, c), A2: (n, d, d), Q2: (n, d, d), "
        "P2: (d, d)) -> (n, c d, c d), (n, c d, c d)",
    ),
    KernelSpec(
        name="product_pull_back",
        module="discretization",
        signature="(A1: (n, c, c), Q1: (n, c, c), P1: (c, c), A2: (n, d, d), Q2: (n, d, d), "
        "P2: (d, d), bar_A: (n, c d, c d), bar_Q: (n, c d, c d)) "
        "-> (n, c, c), (n, c, c), (c, c), (n, d, d), (n, d, d), (d, d)",
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
        name="steady_nll",
        module="state_space",
        signature="(A: (d, d), h: (d,), gain: (d,), variance: float, y: (n,), m: (d,)) -> float",
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
        name="draw_states",
        module="state_space",
        signature="(A: (n, d, d), Q: (n, d, d), P: (d, d), noise: (n + 1, d, K)) -> (n, d, K)",
    ),
    KernelSpec(
        name="multi_output_nll",
        module="multi_output",
        signature="(A: (n, d, d), Q: (n, d, d), H: (p, d), y: (n, p), r: (n, p), m: (d,), "
        "P: (d, d)) -> float, int, (d,), (d, d)",
    ),
    KernelSpec(
        name="multi_output_filter",
        module="multi_output",
        signature="(A: (n, d, d), Q: (n, d, d), H: (p, d), y: (n, p), r: (n, p), m: (d,), "
        "P: (d, d)) -> (n, d), (n, d, d), (n, p, d), (n, p), (n, p), (n + 1, d), "
        "(n + 1, d, d), float, int",
    ),
    KernelSpec(
        name="multi_output_adjoint",
        module="multi_output",
        signature="(A: (n, d, d), H: (p, d), u: (n, p, d), S: (n, p), v: (n, p), "
        "filtered: (n + 1, d), covariances: (n + 1, d, d), bar_m: (d,), bar_P: (d, d)) "
        "-> (n, d, d), (n, d, d), (n, p), (n, p), (d,), (d, d), (p, d)",
    ),
    KernelSpec(
        name="multi_output_smoother",
        module="multi_output",
        signature="(A: (n, d, d), H: (p, d), means: (n, d), covs: (n, d, d), u: (n, p, d), "
        "S: (n, p), v: (n, p), outputs: (c, d), score: (d,), information: (d, d)) "
        "-> (n, c), (n, c), (n, p), (n, p), (d,), (d, d)",
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
    KernelSpec(
        name="diagonal_kernel",
        module="diagonal_ssm",
        signature="(rates: (N,), weights: (N,), length: int) -> (length,)",
        compiled=(),
    ),
    KernelSpec(
        name="diagonal_scan",
        module="diagonal_ssm",
        signature="((local: (T m, T p), inward: (T m, W), outward: (W, T p), powers: (T + 1, N)), "
        "X: (L m, K), state: (K, N)) -> (L p, K), (K, N)",
    ),
    KernelSpec(
        name="diagonal_solve",
        module="diagonal_ssm",
        signature="((local: (T, T), inward: (T, W), outward: (W, T), powers: (T + 1, N)), "
        "Y: (L, K)) -> (L, K)",
    ),
    KernelSpec(
        name="generator_filter",
        module="quasiseparable",
        signature="(A: (n, b, b, B), h: (b, B), s: (n or 1, b, B), y: (n,), r: (n,), m: (b, B), "
        "Z: (B, b, b, B), keep: bool) -> (n, b, B), (n,), (n,), float, int, (b, B), "
        "(B, b, b, B), (n or 0, b, B), (n or 0, B, b, b, B)",
    ),
    KernelSpec(
        name="generator_adjoint",
        module="quasiseparable",
        signature="(A: (n, b, b, B), h: (b, B), u: (n, b, B), S: (n,), v: (n,), "
        "means: (n, b, B), history: (n, B, b, b, B), bar_m: (b, B), bar_Z: (B, b, b, B)) "
        "-> (n, b, b, B), (n, b, B), (n,), (n,), (b, B), (B, b, b, B)",
    ),
    KernelSpec(
        name="generator_causal_sweep",
        module="quasiseparable",
        signature="(A: (n, b, b, B), h: (b, B), g: (n, b, B), diagonal: (n,), X: (n, K), "
        "feedback: bool) -> (n, K)",
    ),
    KernelSpec(
        name="generator_anticausal_sweep",
        module="quasiseparable",
        signature="(A: (n, b, b, B), h: (b, B), g: (n, b, B), diagonal: (n,), X: (n, K), "
        "feedback: bool) -> (n, K)",
    ),
    KernelSpec(
        name="block_tridiagonal_cholesky",
        module="block_tridiagonal",
        signature="(D: (n, d, d), E: (n - 1, d, d)) -> (n, d, d), (n - 1, d, d), int",
    ),
    KernelSpec(
        name="block_bidiagonal_solve",
        module="block_tridiagonal",
        signature="(L: (n, d, d), M: (n - 1, d, d), B: (n d, K), adjoint: bool) -> (n d, K)",
    ),
    KernelSpec(
        name="block_tridiagonal_inverse_blocks",
        module="block_tridiagonal",
        signature="(L: (n, d, d), M: (n - 1, d, d)) -> (n, d, d)",
    ),
)

KERNELS: dict[str, KernelSpec] = {spec.name: spec for spec in _SPECS}
