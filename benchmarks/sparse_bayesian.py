"""Sparse recovery under Kronecker dictionaries: errors, supports and times on the same draws."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import orthogonal_mp

import structops as so
from benchmarks.harness import Problem
from structops.solvers import (
    KroneckerPosterior,
    KroneckerSBL,
    SparseBayesianLearning,
    orthogonal_matching_pursuit,
)

TITLE = "Sparse Bayesian learning"
THREADS = (1,)
NOTES = """\
**Recovery.** Dictionaries H_1 ⊗ H_2 ⊗ H_3 with Gaussian factors of m_k × 15, (m_k) = (8, 12, 15);
x = x_1 ⊗ x_2 ⊗ x_3 with K = 3 Gaussian non-zeros in each ("rank one"), or free Gaussian values on
the same supports; seeds 0, 1, …. *Oracle* is least squares on the true support; a run with more
than ten times its error is a failure, and its seed is printed. NMSE is ‖x̂ - x‖²/‖x‖². SRR is the
overlap of {|x̂_i| > 1e-3 max |x̂|} with the true support, |∩|/|∪|; *support* is the overlap with
`support_`. Rank-one values span orders of magnitude, so that some lie below the noise, and some of
x itself below that threshold: the SRR of the true x is given for comparison.

**Sweeps** at 25 dB. SVD, AM and one-sweep are the published settings (known noise, hand-set
pruning); KOMP is N-way matching pursuit with up to 10 indices per mode, or told K; OMP stops at
the known noise. Cells are median (mean) of the NMSE over the same draws. *better than all* counts
draws on which ours (noise unknown) has at most 1.05 times the least error of all baselines.

**IRS-MIMO**: channels through a reflecting surface, complex; patterns couple the arrival angles.
SER is the share of wrong QPSK symbols after beamforming by the estimated channel; *SER > 0* counts
trials. *coupled variances* is the published pattern-coupled M-step without refinement.

**Posterior**: mean and all standard deviations. The dense peer is given the dictionary as a matrix,
forms the covariance as the textbook does, and is left out where that takes gigabytes (550 GB at
64³)."""

SHAPE, PER_MODE, N = (8, 12, 15), 3, 15


def problems(quick: bool) -> Iterator[Problem]:
    yield from reference()
    draws = 10 if quick else 200
    for values in ("rank one", "free"):
        for noise in ("learn", "known"):
            if noise == "known" and values == "free":
                continue
            for snr in (20,) if quick else (5, 10, 15, 20, 25, 30):
                yield recovery(snr, noise, values, draws)
    draws = 3 if quick else 50
    for first in (8,) if quick else (6, 8, 10, 12, 14):
        yield sweep(f"M_1 = {first}", (first, 12, 15), PER_MODE, draws)
    for per_mode in (3,) if quick else (2, 3, 4, 5, 6):
        yield sweep(f"K = {per_mode}", SHAPE, per_mode, draws)
    for snr in (20,) if quick else (4, 8, 12, 16, 20):
        for method in IRS_METHODS:
            yield irs(snr, method, 3 if quick else 50)
    yield posterior_time((8, 12, 15), (15, 15, 15), dense=not quick)
    for n in (64,) if quick else (64, 128):
        yield posterior_time((n // 2,) * 3, (n,) * 3, dense=False)
    yield pursuit_time(2 if quick else 20)
    if not quick:
        yield classic()


# -- draws --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Draw:
    """One data set: factors, true coefficients, data as tensors, noise variance, supports."""

    factors: list[np.ndarray]
    X: np.ndarray
    Y: np.ndarray
    noise: float
    supports: list[np.ndarray]

    @property
    def operator(self) -> so.KroneckerProduct:
        return so.KroneckerProduct(*self.factors)


def along(X: np.ndarray, matrices: Sequence[np.ndarray]) -> np.ndarray:
    for k, A in enumerate(matrices):
        X = np.moveaxis(np.tensordot(A, X, (1, k)), 0, k)
    return X


def draw(
    seed: int,
    snr: float,
    shape: Sequence[int] = SHAPE,
    per_mode: int = PER_MODE,
    values: str = "rank one",
) -> Draw:
    """The synthetic experiment."""
    rng = np.random.default_rng(seed)
    factors = [rng.standard_normal((m, N)) for m in shape]
    vectors, supports = [], []
    for _ in shape:
        index = np.sort(rng.choice(N, per_mode, replace=False))
        vector = np.zeros(N)
        vector[index] = rng.standard_normal(per_mode)
        vectors.append(vector)
        supports.append(index)
    X = np.multiply.outer(np.multiply.outer(vectors[0], vectors[1]), vectors[2])
    if values == "free":
        X = np.where(X != 0, rng.standard_normal(X.shape), 0.0)
    clean = along(X, factors)
    noise = float(np.mean(clean**2)) / 10 ** (snr / 10)
    Y = clean + np.sqrt(noise) * rng.standard_normal(clean.shape)
    return Draw(factors, X, Y, noise, supports)


def nmse(found: np.ndarray, X: np.ndarray) -> float:
    return float(np.sum(np.abs(found.reshape(X.shape) - X) ** 2) / np.sum(np.abs(X) ** 2))


def recovery_rate(found: np.ndarray, X: np.ndarray) -> float:
    size = np.abs(found.reshape(X.shape))
    return overlap(size > 1e-3 * size.max(), X != 0)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sum(a & b) / np.sum(a | b))


def oracle(d: Draw) -> np.ndarray:
    """Least squares on the true support."""
    return refit(d, d.supports)


def refit(d: Draw, supports: Sequence[Any]) -> np.ndarray:
    inverses = [np.linalg.pinv(H[:, index]) for H, index in zip(d.factors, supports, strict=True)]
    X = np.zeros(d.X.shape)
    X[np.ix_(*supports)] = along(d.Y, inverses)
    return X


def fitted(d: Draw, **options: Any) -> KroneckerSBL:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # published settings stop after 150 steps
        return KroneckerSBL(d.operator, **options).fit(d.Y.ravel())


# -- recovery -----------------------------------------------------------------------------------


def recovery(snr: float, noise: str, values: str, draws: int) -> Problem:
    def figures(_: Any) -> Mapping[str, str]:
        errors, best, rates, supports, own, seconds = [], [], [], [], [], []
        for seed in range(draws):
            d = draw(seed, snr, values=values)
            start = time.process_time()
            sbl = fitted(d, noise=d.noise if noise == "known" else "learn")
            seconds.append(time.process_time() - start)
            errors.append(nmse(sbl.coef_, d.X))
            best.append(nmse(oracle(d), d.X))
            rates.append(recovery_rate(sbl.coef_, d.X))
            own.append(recovery_rate(d.X, d.X))
            chosen = np.zeros(d.X.size, dtype=bool)
            chosen[sbl.support_] = True
            supports.append(overlap(chosen, d.X.ravel() != 0))
        failed = np.flatnonzero(np.array(errors) > 10 * np.array(best))
        return {
            "median NMSE": f"{np.median(errors):.2e}",
            "mean NMSE": f"{np.mean(errors):.2e}",
            "oracle median": f"{np.median(best):.2e}",
            "oracle mean": f"{np.mean(best):.2e}",
            "median / oracle's": f"{np.median(errors) / np.median(best):.2f}",
            "SRR": f"{np.mean(rates):.3f}",
            "SRR of x": f"{np.mean(own):.3f}",
            "support": f"{np.mean(supports):.3f}",
            "failures": f"{failed.size} of {draws}"
            + (f" {failed.tolist()}" if failed.size else ""),
            "CPU s, median": f"{np.median(seconds):.3f}",
            "CPU s, mean": f"{np.mean(seconds):.3f}",
        }

    label = f"{snr} dB, {values}, noise {'known' if noise == 'known' else 'unknown'}"
    return Problem(label=label, contestants={}, figures=figures, table="Recovery")


def reference() -> Iterator[Problem]:
    """One published data set, with the published settings and with ours."""
    file = Path(os.environ.get("STRUCTOPS_DATA", ""), "krosbl_25dB.npz")
    if not file.is_file():
        return
    data = np.load(file)
    factors = [data[f"H{k}"] for k in (1, 2, 3)]
    X, Y = data["x"].reshape(N, N, N), data["y"].reshape(SHAPE)
    d = Draw(factors, X, Y, float(data["noise_variance"]), [])
    for name, (options, published) in PUBLISHED.items():
        noise = d.noise if published else "learn"
        sbl = fitted(d, noise=noise, **options)
        figures = {
            "NMSE": f"{nmse(sbl.coef_, X):.4e}",
            "prototype": published,
            "SRR": f"{recovery_rate(sbl.coef_, X):.3f}",
            "EM steps": str(sbl.n_iter_),
        }
        run = {"structops": lambda options=options, noise=noise: fitted(d, noise=noise, **options)}
        yield Problem(name, run, check=lambda *_: None, figures=figures, table="Published data set")


_PLAIN: dict[str, Any] = {"anneal": False, "refine": False}
PUBLISHED: dict[str, tuple[dict[str, Any], str]] = {
    "SVD, published settings": ({"method": "svd", "pruning": 1e-3, **_PLAIN}, "4.8785e-4"),
    "AM, published settings": ({"method": "am", "pruning": 1e-2, **_PLAIN}, "4.9125e-4"),
    "one-sweep, published settings": (
        {"method": "one-sweep", "pruning": 1e-2, **_PLAIN},
        "4.9125e-4",
    ),
    "default, noise unknown": ({}, ""),
}


# -- sweeps against baselines -------------------------------------------------------------------


def kronecker_pursuit(d: Draw, most: int) -> np.ndarray:
    """N-way OMP: one index per mode a step, least squares on the product support."""
    norms = [np.linalg.norm(H, axis=0) for H in d.factors]
    adjoints = [(H / v).T for H, v in zip(d.factors, norms, strict=True)]
    supports: list[list[int]] = [[] for _ in d.factors]
    X, residual, power = np.zeros(d.X.shape), d.Y, np.linalg.norm(d.Y)
    while np.linalg.norm(residual) > 1e-2 * power:
        scores = np.abs(along(residual, adjoints))
        new = False
        for index, i in zip(supports, np.unravel_index(np.argmax(scores), X.shape), strict=True):
            if i not in index and len(index) < most:
                index.append(int(i))
                new = True
        if not new:
            break
        X = refit(d, supports)
        residual = d.Y - along(X, d.factors)
    return X


def plain_pursuit(d: Draw) -> np.ndarray:
    tol = np.sqrt(d.noise * d.Y.size)
    return orthogonal_matching_pursuit(d.operator, d.Y.ravel(), tol=tol).coef


BASELINES: dict[str, Callable[[Draw], np.ndarray]] = {
    "SVD": lambda d: fitted(d, noise=d.noise, method="svd", pruning=1e-3, **_PLAIN).coef_,
    "AM": lambda d: fitted(d, noise=d.noise, method="am", pruning=1e-2, **_PLAIN).coef_,
    "one-sweep": lambda d: (
        fitted(d, noise=d.noise, method="one-sweep", pruning=1e-2, **_PLAIN).coef_
    ),
    "SVD, noise learned": lambda d: fitted(d, method="svd", pruning=5e-4, **_PLAIN).coef_,
    "KOMP": lambda d: kronecker_pursuit(d, 10),
    "OMP": plain_pursuit,
}


def sweep(label: str, shape: Sequence[int], per_mode: int, draws: int) -> Problem:
    def figures(_: Any) -> Mapping[str, str]:
        contestants: dict[str, Callable[[Draw], np.ndarray]] = {
            "ours": lambda d: fitted(d).coef_,
            **BASELINES,
            "KOMP told K": lambda d: kronecker_pursuit(d, per_mode),
            "oracle": oracle,
        }
        errors: dict[str, list[float]] = {name: [] for name in contestants}
        for seed in range(draws):
            d = draw(seed, 25, shape, per_mode)
            for name, solve in contestants.items():
                errors[name].append(nmse(solve(d), d.X))
        best = np.min([e for n, e in errors.items() if n not in ("ours", "oracle")], axis=0)
        better = np.count_nonzero(np.array(errors["ours"]) <= 1.05 * best)
        cells = {n: f"{np.median(e):.1e} ({np.mean(e):.1e})" for n, e in errors.items()}
        return {**cells, "better than all": f"{better} of {draws}"}

    return Problem(label=label, contestants={}, figures=figures, table="Sweeps at 25 dB")


# -- IRS-MIMO -----------------------------------------------------------------------------------

GRID, ANTENNAS, STATIONS, ELEMENTS = 18, 6, 16, 256
PILOTS, PATTERNS, SPREAD = 3, 6, 3

IRS_METHODS: dict[str, dict[str, Any]] = {
    "pattern": {"pattern": (0.5, None, 0.5)},
    "no pattern": {},
    "coupled variances": {
        "pattern": (0.8, None, 0.8),
        "refine": False,
        "anneal": False,
        "pruning": 1e-2,
    },
}


@dataclass(frozen=True)
class Channel:
    """Factors, data (pattern, pilot, antenna), the true channels, and what maps x to channels."""

    factors: list[np.ndarray]
    Y: np.ndarray
    channels: np.ndarray
    base: np.ndarray
    mobile: np.ndarray

    def estimated(self, x: np.ndarray) -> np.ndarray:
        """Channels (pattern, base antenna, mobile antenna) of coefficients."""
        X = x.reshape(GRID, GRID, GRID)
        return np.einsum(
            "ti,ijk,bk,mj->tbm", self.factors[0], X, self.base, self.mobile.conj(), optimize=True
        )


def steering(size: int) -> np.ndarray:
    p, j = np.arange(size)[:, None], np.arange(GRID)
    return np.exp(1j * np.pi * p * (2 * j / GRID - 1)) / np.sqrt(size)


def circular(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) / np.sqrt(2)


def irs_channel(seed: int, snr: float) -> Channel:
    """One departure angle at the mobile and the surface, three contiguous arrival angles each."""
    rng = np.random.default_rng(seed)
    mobile, surface, base = steering(ANTENNAS), steering(ELEMENTS), steering(STATIONS)
    pilots = rng.choice([-1, 1], (ANTENNAS, PILOTS)) + 1j * rng.choice([-1, 1], (ANTENNAS, PILOTS))
    pilots = pilots / np.sqrt(2 * ANTENNAS)
    departures = rng.integers(GRID, size=2)
    gains = np.zeros((2, GRID), dtype=complex)
    for row in gains:
        first = rng.integers(GRID - SPREAD + 1)
        row[first : first + SPREAD] = circular(rng, SPREAD)
    G1 = np.outer(surface @ gains[0], mobile[:, departures[0]].conj())
    G2 = np.outer(base @ gains[1], surface[:, departures[1]].conj())
    G1 *= np.sqrt(ANTENNAS * ELEMENTS / SPREAD)
    G2 *= np.sqrt(STATIONS * ELEMENTS / SPREAD)
    while True:
        reflections = rng.choice([-1.0, 1.0], (ELEMENTS, PATTERNS)) / np.sqrt(ELEMENTS)
        channels = np.array([G2 @ (theta[:, None] * G1) for theta in reflections.T])
        if np.min(np.linalg.norm(channels, axis=(1, 2))) > 1e-5:
            break
    clean = (channels @ pilots).transpose(0, 2, 1)
    noise = np.mean(np.abs(clean) ** 2) / 10 ** (snr / 10)
    Y = clean + np.sqrt(noise) * circular(rng, *clean.shape)
    # products of two steering vectors of the surface depend on the difference of the angles
    differences = surface * np.conj(surface[:, :1])
    factors = [reflections.T @ differences, pilots.T @ mobile.conj(), base]
    return Channel(factors, Y, channels, base, mobile)


def channel_error(c: Channel, x: np.ndarray) -> float:
    wrong = np.sum(np.abs(c.estimated(x) - c.channels) ** 2, axis=(1, 2))
    return float(np.mean(wrong / np.sum(np.abs(c.channels) ** 2, axis=(1, 2))))


def symbol_error_rate(c: Channel, x: np.ndarray, snr: float, rng: np.random.Generator) -> float:
    """QPSK symbols through the channel, beamformed and detected by the estimate."""
    symbols = np.exp(1j * np.pi * (np.arange(4) + 0.5) / 2)
    wrong = []
    for H, estimate in zip(c.channels, c.estimated(x), strict=True):
        U, _, Vh = np.linalg.svd(estimate)
        u, v = U[:, 0], Vh[0].conj()
        sent = rng.integers(4, size=20_000 // PATTERNS)
        noise = np.linalg.norm(H, 2) / 10 ** (snr / 20) * circular(rng, sent.size)
        received = (u.conj() @ H @ v) * symbols[sent] + noise
        expected = (u.conj() @ estimate @ v) * symbols
        found = np.argmin(np.abs(received[:, None] - expected), axis=1)
        wrong.append(np.mean(found != sent))
    return float(np.mean(wrong))


def irs(snr: float, method: str, trials: int) -> Problem:
    def figures(_: Any) -> Mapping[str, str]:
        errors, rates, seconds = [], [], []
        for seed in range(trials):
            c = irs_channel(seed, snr)
            operator = so.KroneckerProduct(*c.factors)
            start = time.process_time()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)
                sbl = KroneckerSBL(operator, **IRS_METHODS[method]).fit(c.Y.ravel())
            seconds.append(time.process_time() - start)
            errors.append(channel_error(c, sbl.coef_))
            rng = np.random.default_rng(seed)
            rates.append(symbol_error_rate(c, sbl.coef_, snr, rng))
        return {
            "median NMSE": f"{np.median(errors):.1e}",
            "mean NMSE": f"{np.mean(errors):.1e}",
            "mean SER": f"{np.mean(rates):.4f}",
            "SER > 0": f"{np.count_nonzero(rates)} of {trials}",
            "CPU s, median": f"{np.median(seconds):.3f}",
        }

    return Problem(f"{snr} dB, {method}", contestants={}, figures=figures, table="IRS-MIMO")


# -- times --------------------------------------------------------------------------------------


def posterior_time(rows: Sequence[int], columns: Sequence[int], dense: bool) -> Problem:
    rng = np.random.default_rng(0)
    factors = [rng.standard_normal((m, n)) for m, n in zip(rows, columns, strict=True)]
    variances = [rng.random(n) for n in columns]
    operator, y = so.KroneckerProduct(*factors), rng.standard_normal(int(np.prod(rows)))

    def ours() -> np.ndarray:
        posterior = KroneckerPosterior(operator, y, variances, 0.1)
        return np.concatenate([posterior.mean, posterior.std])

    contestants: dict[str, Callable[[], Any]] = {"structops": ours}
    if dense:
        H = operator.to_dense()
        g = np.kron(np.kron(variances[0], variances[1]), variances[2])

        def textbook() -> np.ndarray:
            C = (H * g) @ H.T + 0.1 * np.eye(y.size)
            gain = np.linalg.solve(C, H * g).T  # Γ Hᴴ C⁻¹
            covariance = np.diag(g) - gain @ (H * g)
            return np.concatenate([gain @ y, np.sqrt(np.diag(covariance))])

        contestants["dense"] = textbook
    size = " x ".join(map(str, columns))
    return Problem(
        label=f"{size} unknowns, {' x '.join(map(str, rows))} data",
        contestants=contestants,
        skipped={} if dense else {"dense": "left out"},
        rtol=1e-8,
        table="Posterior",
    )


def pursuit_time(atoms: int) -> Problem:
    d = draw(0, 20)
    dense = d.operator.to_dense()
    norms = np.linalg.norm(dense, axis=0)
    dense, y = dense / norms, d.Y.ravel()

    def peer() -> np.ndarray:
        return orthogonal_mp(dense, y, n_nonzero_coefs=atoms) / norms

    return Problem(
        label=f"{atoms} atoms of {dense.shape[0]} x {dense.shape[1]}",
        contestants={
            "structops": lambda: orthogonal_matching_pursuit(d.operator, y, atoms).coef,
            "scikit-learn": peer,
        },
        rtol=1e-8,
        table="Orthogonal matching pursuit",
    )


def classic() -> Problem:
    """A variance for each coefficient, on the draws of the recovery table."""

    def figures(_: Any) -> Mapping[str, str]:
        errors, kronecker, seconds = [], [], []
        for seed in range(5):
            d = draw(seed, 25)
            start = time.process_time()
            sbl = SparseBayesianLearning(d.operator).fit(d.Y.ravel())
            seconds.append(time.process_time() - start)
            errors.append(nmse(sbl.coef_, d.X))
            kronecker.append(nmse(fitted(d).coef_, d.X))
        return {
            "median NMSE": f"{np.median(errors):.1e}",
            "median NMSE, KroneckerSBL": f"{np.median(kronecker):.1e}",
            "CPU s, median": f"{np.median(seconds):.2f}",
        }

    label = "25 dB, 5 draws, fast marginal likelihood"
    return Problem(label, contestants={}, figures=figures, table="A variance for each coefficient")
