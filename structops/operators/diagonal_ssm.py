"""Diagonal state-space models of one signal, as causal convolutions.

With the samples u_0, u_1, ... of a signal held (or interpolated) between times dt apart, the model

    x' = A x + B u,    y = 2 Re(C x) + D u,    A diagonal,

is a convolution with h[l] = Re sum_n w_n exp(l r_n), D added at l = 0. It is multiplied either by
its recurrence, in chunks of samples so that the work is matrix products, or by Fourier transforms.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from structops import namespace as ns
from structops import random
from structops.exceptions import NamespaceMismatchError, ShapeMismatchError
from structops.kernels.reference.diagonal_ssm import scan_tables
from structops.kernels.registry import kernel
from structops.operators.base import LinearOperator
from structops.operators.hippo import hippo_legs, legs_normal_modes
from structops.operators.toeplitz import Toeplitz, fast_lengths
from structops.properties import DIAGONAL, LOWER_TRIANGULAR, REAL
from structops.validation import as_array, as_size, data_is_trusted

#: Up to this many modes the recurrence is the faster product (from 4096 samples on; for shorter
#: signals the two are about equal from 32 modes on).
RECURRENCE_UP_TO = 128
#: Samples that the recurrence takes at a time.
CHUNK = 64
#: Size of a sum of exponentials over a signal below which its reciprocal is damped.
SMALLEST_SUM = 2e-12
#: exp of more than this overflows.
LARGEST_EXPONENT = 700.0

DISCRETIZATIONS = ("zoh", "bilinear")
MODES = ("auto", "recurrence", "convolution")
INITIALIZATIONS = ("lin", "inv", "legs", "real")


class DiagonalModel(LinearOperator):
    """Base of the diagonal state-space models ``x' = A x + B u, y = 2 Re(C x) + D u``.

    A subclass has the parameters A, B, C, D, dt, length, discretization and unstable, and sets
    ``_tables`` (see `scan_tables`; None where products are made in another way).
    """

    A: Any
    B: Any
    C: Any
    D: Any
    dt: Any
    length: int
    discretization: str
    unstable: bool
    _tables: Any

    def _check_model(self) -> None:
        """Refuse what is no model, apart from shapes."""
        self._find_library()  # before arrays of different libraries meet
        for name in "BC":
            if not self.has_pairs and ns.numpy_dtype(getattr(self, name)).kind == "c":
                raise TypeError(
                    f"A is real and {name} complex; give A as a complex array, with one of each "
                    "pair of conjugate eigenvalues"
                )
        _check_number(self.dt, "dt")
        step = ns.detached_value(self.dt)
        if not step > 0:
            raise ValueError(f"dt, the time between samples, must be positive, found {step}")
        largest = _largest_real_part(self.A)
        if largest >= 0 and not self.unstable:
            raise ValueError(
                f"the model is not stable: the largest Re A is {largest:.4g}, and it has to be "
                "negative; pass unstable=True to have the recurrence all the same"
            )

    def _discretized(self) -> tuple[Any, Any, Any, Any]:
        """Logarithms of the poles, factors of the input, B and C, all in double precision."""
        wide = np.dtype(np.complex128 if self.has_pairs else np.float64)
        A, B, C = (ns.astype(ns.as_inexact(v), wide) for v in (self.A, self.B, self.C))
        dt = ns.scalar_like(self.dt, A)
        z = dt * A
        if self.discretization == "zoh":
            return z, dt * _growth(z), B, C
        return _log_of_trapezoidal(z), dt / (1 - z / 2), B, C

    def _map_arrays(self, convert: Any, dtype: np.dtype | None = None) -> LinearOperator:
        if dtype is None:
            return super()._map_arrays(convert)
        real, complex_ = ns.real_dtype(dtype), ns.complex_dtype(dtype)

        # a matrix that is made complex keeps its real parameters, which say that there are no pairs
        def cast(x: Any) -> Any:
            return ns.astype(x, complex_ if ns.numpy_dtype(x).kind == "c" else real)

        return super()._map_arrays(cast, dtype)

    @property
    def has_pairs(self) -> bool:
        """True when A is complex and each eigenvalue stands for itself and its conjugate."""
        return ns.numpy_dtype(self.A).kind == "c"

    def poles(self) -> Any:
        """Discrete-time eigenvalues a, shape (N,), in double precision."""
        rates = self._discretized()[0]
        return ns.array_namespace(rates).exp(rates)

    def stream(self, columns: int | None = None, *, check_finite: bool = False) -> DiagonalStream:
        """The model at rest, ready to be fed sample by sample.

        Parameters
        ----------
        columns : int, optional
            Number of signals fed side by side; one signal without an axis of columns when omitted.
        check_finite : bool
            Raise FloatingPointError as soon as the state is not finite.

        Examples
        --------
        >>> import numpy as np, structops as so
        >>> stream = so.DiagonalSSM([-1.0], [1.0], [1.0], dt=np.log(2), length=1).stream()
        >>> float(stream.step(2.0)), stream.step(np.zeros(2))
        (1.0, array([0.5 , 0.25]))
        """
        return DiagonalStream(self, columns, check_finite)

    @property
    def sample_shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Shape of one sample of the input, and of the output."""
        return (), ()

    def tables(self, dtype: Any) -> tuple[Any, ...]:
        """What the kernels of the recurrence need (see `scan_tables`), in a precision."""
        real, complex_ = ns.real_dtype(dtype), ns.complex_dtype(dtype)
        tables = self._make_tables() if self._tables is None else self._tables
        return tuple(
            ns.astype(t, complex_ if ns.numpy_dtype(t).kind == "c" else real) for t in tables
        )

    def _make_tables(self) -> tuple[Any, ...]:
        """The tables in double precision."""
        raise NotImplementedError

    def on_real_columns(self, X: Any, function: Any) -> Any:
        """``function`` of a real block: of real and imaginary parts side by side."""
        if ns.numpy_dtype(X).kind == "f":
            return function(X)
        xp = ns.array_namespace(X)
        Y = function(xp.concat([xp.real(X), xp.imag(X)], axis=1))
        K = X.shape[1]
        return ns.astype(Y[:, :K], ns.numpy_dtype(X)) + 1j * Y[:, K:]

    def _scan(self, X: Any) -> Any:
        tables = self.tables(ns.numpy_dtype(X))
        state = at_rest(tables, X.shape[1])
        return kernel("diagonal_scan", ns.library_of(X))(tables, X, state)[0]


class DiagonalSSM(DiagonalModel):
    """Causal convolution by a diagonal state-space model, ``x' = A x + B u, y = 2 Re(C x) + D u``.

    Row l of the matrix holds h[l], h[l - 1], ..., h[0], with the impulse response

        h[l] = 2 Re sum_n C_n b_n a_n^l, plus D at l = 0.

    Parameters
    ----------
    A : array, shape (N,)
        Eigenvalues of the continuous-time model, in inverse units of ``dt``. A *complex* array
        holds one of each pair of conjugates, hence ``2 Re``; with a *real* array all is real and
        the factor 2 is absent.
    B, C : array, shape (N,)
        Input and output weights; real if A is.
    D : float or 0-d array
        Feedthrough, real.
    dt : float or 0-d array
        Time between samples, positive.
    length : int
        L >= 1, the order of the matrix.
    discretization : {"zoh", "bilinear"}
        ``"zoh"``: a = exp(dt A), b = (a - 1) / A B, exact for a signal that is constant between
        samples. ``"bilinear"``: a = (1 + dt A / 2) / (1 - dt A / 2), b = dt / (1 - dt A / 2) B,
        the trapezoidal rule.
    mode : {"auto", "recurrence", "convolution"}
        How products are made; "auto" takes the recurrence up to 128 modes and whenever the model
        is unstable.
    unstable : bool
        Allow eigenvalues with Re A >= 0, which are refused otherwise.
    dtype : dtype, optional
        Of the matrix; the real dtype of A, B and C when omitted.

    Raises
    ------
    ValueError
        Eigenvalues with Re A >= 0 without ``unstable=True``; dt <= 0; length < 1; entries that are
        not finite; an unstable model with ``mode="convolution"``.
    ShapeMismatchError
        A, B and C differ in shape.
    TypeError
        Complex B, C or D where real numbers are due.

    Notes
    -----
    =====================  ===============================================================
    product, recurrence    L (8 N + 128) flops as matrix products, memory of one chunk
    product, convolution   two real FFTs of a fast length >= 2 L - 1
    impulse response       4 L N flops, memory L + O(N sqrt(L))
    solve, determinant     12 L N flops by the recurrence of the inverse; O(1)
    =====================  ===============================================================

    Sums over modes are prepared in double precision. The derivatives with respect to A, B, C, D
    and dt are those of PyTorch.

    References
    ----------
    .. [1] A. Gu, A. Gupta, K. Goel and C. Ré, "On the parameterization and initialization of
       diagonal state space models", NeurIPS 2022.
    .. [2] A. Gupta, A. Gu and J. Berant, "Diagonal state spaces are as effective as structured
       state spaces", NeurIPS 2022.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> K = so.DiagonalSSM([-1.0], [1.0], [1.0], dt=np.log(2), length=4)
    >>> K @ np.array([2.0, 0.0, 0.0, 0.0])
    array([1.   , 0.5  , 0.25 , 0.125])
    >>> oscillator = so.DiagonalSSM([-0.1 + 2j], [1.0], [1.0], dt=0.01, length=1000)
    >>> oscillator.shape
    (1000, 1000)
    """

    def __init__(
        self,
        A: Any,
        B: Any,
        C: Any,
        D: Any = 0.0,
        *,
        dt: Any,
        length: int,
        discretization: str = "zoh",
        mode: str = "auto",
        unstable: bool = False,
        dtype: Any = None,
    ):
        self.A, self.B, self.C = (
            as_array(v, name, ndim)
            for v, name, ndim in ((A, "A", 1), (B, "B", (1, 2)), (C, "C", (1, 2)))
        )
        self.D, self.dt = D, dt
        self.length = as_size(length, "length", minimum=1)
        self.discretization = one_of(discretization, "discretization", DISCRETIZATIONS)
        self.mode = one_of(mode, "mode", MODES)
        self.unstable = bool(unstable)
        arrays = [ns.as_inexact(v) for v in (self.A, self.B, self.C)]
        found = np.result_type(*map(ns.numpy_dtype, arrays))
        self.dtype = ns.real_dtype(found) if dtype is None else ns.inexact_dtype(dtype)
        if not data_is_trusted():
            self._check()
        self._rates, self._weights = self._discretize()
        self._tables: Any = None
        self._symbol: Any = None
        if self.uses_recurrence:
            self._tables = self._make_tables()
            self._tables = self.tables(self.dtype)
        else:
            self._lengths = fast_lengths((2 * self.length - 1,))
            transform = kernel("toeplitz_symbol", ns.library_of(self.A))
            self._symbol = transform(self._lags(), (self.length,), self._lengths, False)
        super().__init__(
            dtype=self.dtype,
            shape=(self.length, self.length),
            properties=(LOWER_TRIANGULAR if self.length > 1 else DIAGONAL) | REAL,
        )

    # ------------------------------------------------------------------ construction

    @classmethod
    def s4d(
        cls,
        N: int,
        init: str = "lin",
        *,
        C: Any = None,
        D: Any = 0.0,
        dt: Any,
        length: int,
        discretization: str = "zoh",
        mode: str = "auto",
        rng: Any = None,
        dtype: Any = np.float64,
    ) -> DiagonalSSM:
        """The diagonal model S4D with one of its initialisations.

        Parameters
        ----------
        N : int
            Number of modes, pairs of conjugates (except for "real"): the state has 2 N dimensions.
        init : {"lin", "inv", "legs", "real"}
            Eigenvalues. "lin": -1/2 + i pi n. "inv": -1/2 + i (2 N / pi) (2 N / (2 n + 1) - 1).
            "legs": those of the normal part of the HiPPO-LegS matrix of order 2 N, with half of
            its input vector. "real": -(n + 1). B is one except for "legs".
        C : array, shape (N,), optional
            Output weights; drawn from the standard (complex) normal distribution when omitted.
        D, dt, length, discretization, mode
            See `DiagonalSSM`.
        rng : int, numpy.random.Generator or None
            For C.
        dtype : dtype
            float64 or float32.

        Returns
        -------
        DiagonalSSM
            With NumPy data; see ``to_namespace``.

        Examples
        --------
        >>> import structops as so
        >>> so.DiagonalSSM.s4d(3, "lin", dt=0.1, length=8, rng=0).A
        array([-0.5+0.j        , -0.5+3.14159265j, -0.5+6.28318531j])
        """
        N = as_size(N, "N", minimum=1)
        one_of(init, "init", INITIALIZATIONS)
        real = np.dtype(dtype)
        if real not in (np.float32, np.float64):
            raise TypeError(f"dtype must be float64 or float32, found {real}")
        A, B = _initial(N, init)
        precision = real if init == "real" else ns.complex_dtype(real)
        if C is None:
            normals = random.normal(random.as_key(rng), (2, N))
            C = normals[0] if init == "real" else (normals[0] + 1j * normals[1]) / math.sqrt(2)
            C = C.astype(precision)
        return cls(
            A.astype(precision),
            B.astype(precision),
            C,
            D,
            dt=dt,
            length=length,
            discretization=discretization,
            mode=mode,
        )

    @classmethod
    def dss(
        cls,
        A: Any,
        C: Any,
        D: Any = 0.0,
        *,
        form: str = "softmax",
        dt: Any,
        length: int,
        mode: str = "auto",
    ) -> DiagonalSSM:
        """The model DSS, whose modes are normalised over the length of the signal.

        Parameters
        ----------
        A : array, shape (N,)
            Complex, one of each pair of conjugates, or real; any sign of the real part for
            "softmax".
        C : array, shape (N,)
            The kernel is (2) Re sum_n C_n / A_n softmax_l(dt l A_n) for "softmax" and
            (2) Re sum_n C_n / A_n (exp(dt A_n) - 1) exp(dt l A_n) for "exp".
        form : {"softmax", "exp"}
        D, dt, length, mode
            See `DiagonalSSM`.

        Returns
        -------
        DiagonalSSM
            Held constant between samples (``"zoh"``), with B = 1 / (exp(L dt A) - 1) for
            "softmax" and B = 1 for "exp".

        Notes
        -----
        The sum of a softmax vanishes where L dt A is a multiple of 2 pi i. As in [2]_ of
        `DiagonalSSM`, 1 / z is replaced by conj(z) / (|z|² + g²), here with g = 2e-12, so that it
        stays below 1 / (2 g).
        """
        one_of(form, "form", ("softmax", "exp"))
        A, length = as_array(A, "A", 1), as_size(length, "length", minimum=1)
        values = ns.as_inexact(A)
        xp = ns.array_namespace(values)
        if form == "exp":
            return cls(A, xp.ones_like(values), C, D, dt=dt, length=length, mode=mode)
        steep = _largest_real_part(values) * float(ns.detached_value(dt)) * length
        if steep > LARGEST_EXPONENT:
            raise ValueError(
                f"the largest exponent length * dt * Re A is {steep:.4g}, and exp of more than "
                f"{LARGEST_EXPONENT:.0f} overflows; lower dt, length or Re A"
            )
        wide = ns.astype(values, np.promote_types(ns.numpy_dtype(values), np.float64))
        B = _guarded_reciprocal(xp.expm1(length * ns.scalar_like(dt, wide) * wide))
        B = ns.astype(B, ns.numpy_dtype(values))
        return cls(A, B, C, D, dt=dt, length=length, mode=mode, unstable=steep >= 0)

    def _check(self) -> None:
        if self.B.ndim == 2 or self.C.ndim == 2:
            raise ShapeMismatchError(
                f"B and C must have shape (N,), found {tuple(self.B.shape)} and "
                f"{tuple(self.C.shape)}; several signals at once are structops.MultichannelSSM"
            )
        if not self.A.shape == self.B.shape == self.C.shape or self.A.shape[0] == 0:
            raise ShapeMismatchError(
                f"A, B and C must have one shape (N,), N >= 1, found {tuple(self.A.shape)}, "
                f"{tuple(self.B.shape)} and {tuple(self.C.shape)}"
            )
        _check_number(self.D, "D")
        self._check_model()
        if self.mode == "convolution" and _largest_real_part(self.A) >= 0:
            raise ValueError(
                "the model is not stable, so its impulse response grows and a Fourier transform "
                "would drown the first samples in the rounding of the last; use "
                'mode="recurrence"'
            )

    def _discretize(self) -> tuple[Any, Any]:
        """Logarithms of the poles, and weights of their powers, in double precision."""
        rates, gain, B, C = self._discretized()
        weights = gain * B * C
        return rates, 2 * weights if self.has_pairs else weights

    # ------------------------------------------------------------------ looking at the model

    @property
    def uses_recurrence(self) -> bool:
        """True when products are made by the recurrence, False when by Fourier transforms."""
        if self.mode != "auto":
            return self.mode == "recurrence"
        return self.unstable or self.A.shape[0] <= RECURRENCE_UP_TO

    def impulse_response(self) -> Any:
        """First column h of the matrix, shape (length,), by 4 L N flops in little memory."""
        h = kernel("diagonal_kernel", ns.library_of(self._rates))(
            self._rates, self._weights, self.length
        )
        xp = ns.array_namespace(h)
        return ns.astype(xp.concat([h[:1] + self._feedthrough(), h[1:]]), ns.real_dtype(self.dtype))

    def first_response(self) -> Any:
        """h[0], the diagonal of the matrix, a 0-d array."""
        xp = ns.array_namespace(self._weights)
        total = xp.sum(xp.real(self._weights)) + self._feedthrough()
        return ns.astype(total, ns.real_dtype(self.dtype))

    def impulse_spectrum(self) -> Any:
        """Discrete Fourier transform of the impulse response, in closed form.

        Returns
        -------
        array, shape (length // 2 + 1,)
            Complex, ``sum_l h[l] exp(-2 pi i k l / length)`` in 4 L N flops; `impulse_response`
            is not computed.
        """
        xp = ns.array_namespace(self._rates)
        wide = np.dtype(np.complex128)
        rates, weights = ns.astype(self._rates, wide), ns.astype(self._weights, wide)
        # real parts: half of the mode and half of its conjugate
        rates = xp.concat([rates, xp.conj(rates)])
        weights = 0.5 * xp.concat([weights, xp.conj(weights)])
        decayed = -weights * xp.expm1(self.length * rates)
        count = self.length // 2 + 1
        angles = (
            -2
            * math.pi
            / self.length
            * xp.arange(count, dtype=ns.dtype_in(xp, np.float64), device=ns.device_of(rates))
        )
        block, parts = max(1, 2**16 // rates.shape[0]), []
        for start in range(0, count, block):
            z = 1j * angles[start : start + block, None] + rates[None, :]
            parts.append(xp.sum(-decayed[None, :] / xp.expm1(z), axis=1))
        return xp.concat(parts) + self._feedthrough()

    def transfer_function(self, s: Any) -> Any:
        """Transfer function of the continuous-time model at complex frequencies.

        Parameters
        ----------
        s : array
            In inverse units of dt; ``1j * w`` for the response to cos(w t).

        Returns
        -------
        array
            Complex, of the shape of s: ``sum_n C_n B_n / (s - A_n)``, with the conjugate modes
            where there are pairs, plus D.
        """
        xp = ns.array_namespace(self._rates)
        wide = np.dtype(np.complex128)
        A, B, C = (ns.astype(ns.as_inexact(v), wide) for v in (self.A, self.B, self.C))
        residues = B * C
        if self.has_pairs:
            A = xp.concat([A, xp.conj(A)])
            residues = xp.concat([residues, xp.conj(residues)])
        s = s if ns.is_array(s) else xp.asarray(np.asarray(s), device=ns.device_of(A))
        s = ns.astype(ns.as_inexact(s), wide)
        flat = xp.reshape(s, (math.prod(s.shape), 1))
        values = xp.sum(residues[None, :] / (flat - A[None, :]), axis=1)
        return xp.reshape(values, tuple(s.shape)) + self._feedthrough()

    def to_toeplitz(self) -> Toeplitz:
        """The same matrix given by its entries."""
        h = self.impulse_response()
        return Toeplitz(h, ns.array_namespace(h).zeros_like(h))

    def plus_identity(self, scale: Any, shift: Any) -> DiagonalSSM:
        """``scale * K + shift * I`` for real numbers, as a model with other C and D.

        Parameters
        ----------
        scale, shift : number or 0-d array
        """
        C = ns.as_inexact(self.C)
        scaled = ns.scalar_like(scale, C) * C
        return self.replace(C=scaled, D=scale * self.D + shift)  # type: ignore[return-value]

    # ------------------------------------------------------------------ products

    def _feedthrough(self) -> Any:
        return ns.scalar_like(self.D, self._weights)

    def _lags(self) -> Any:
        h = self.impulse_response()
        xp = ns.array_namespace(h)
        zeros = xp.zeros((self.length - 1,), dtype=h.dtype, device=ns.device_of(h))
        return xp.concat([zeros, h])

    def _make_tables(self) -> tuple[Any, ...]:
        ones = ns.array_namespace(self._rates).ones_like(self._rates)
        return scan_tables(
            self._rates, ones[:, None], self._weights[None, :], self._feedthrough(), CHUNK
        )

    def _apply(self, X: Any) -> Any:
        if self._tables is None:
            apply, n = kernel("toeplitz_apply", ns.library_of(X)), (self.length,)
            return apply(self._symbol, X, n, n, self._lengths, True)
        return self.on_real_columns(X, self._scan)

    def _apply_adjoint(self, Y: Any) -> Any:
        # the transpose of a triangular Toeplitz matrix runs backwards in time
        flip = ns.array_namespace(Y).flip
        return ns.copied(flip(self._apply(flip(Y, axis=0)), axis=0))

    def _to_dense(self) -> Any:
        return ns.astype(self.to_toeplitz()._to_dense(), self.dtype)

    def _flops(self) -> float:
        if self._tables is None:
            length = self._lengths[0]
            return 5.0 * length * math.log2(length + 1) + 3.0 * length
        width = (4.0 if self.has_pairs else 2.0) * self.A.shape[0]
        return 2.0 * self.length * (CHUNK + width)


class DiagonalStream:
    """A model in operation: it holds the state that the samples so far have left behind.

    Parameters
    ----------
    model : DiagonalModel
        A `DiagonalSSM` or a `MultichannelSSM`.
    columns : int, optional
        Number of signals side by side.
    check_finite : bool
        Raise FloatingPointError as soon as the state is not finite.

    Attributes
    ----------
    state : array, shape (columns, N)
        Complex for pairs of conjugates. It may be set, to a copy made before.
    position : int
        Samples taken so far.

    Notes
    -----
    The length of the model does not matter: a stream has no end.
    """

    def __init__(self, model: DiagonalModel, columns: int | None, check_finite: bool):
        self.model = model
        self.columns = None if columns is None else as_size(columns, "columns", minimum=1)
        self.check_finite = bool(check_finite)
        self._dtype = ns.real_dtype(model.dtype)
        side = () if self.columns is None else (self.columns,)
        self._shape_in, self._shape_out = (shape + side for shape in model.sample_shapes)
        self._tables = model.tables(self._dtype)
        local, inward, outward, powers = self._tables
        n, m, p = powers.shape[1], *(math.prod(shape) for shape in model.sample_shapes)
        # the tables of one sample, complex where the state is
        self._first, self._pole = local[:m, :p], powers[1, :]
        self._driven, self._seen = inward[inward.shape[0] - m :, :], outward[:, :p]
        if outward.shape[0] > n:
            self._driven = self._driven[:, :n] + 1j * self._driven[:, n:]
            self._seen = self._seen[:n, :] - 1j * self._seen[n:, :]
        self.reset()

    def reset(self) -> None:
        """Return to rest."""
        self.state = at_rest(self._tables, self.columns or 1)
        self.position = 0

    def step(self, u: Any) -> Any:
        """Take the next sample or samples and answer.

        Parameters
        ----------
        u : number or array
            For one signal a number, or an array (l,) of consecutive samples. For ``columns``
            signals an array (columns,) with one sample of each, or (l, columns). A sample of m
            channels has a further axis (m,) in front of the columns.

        Returns
        -------
        array
            The answers, in the same arrangement.

        Raises
        ------
        ShapeMismatchError
            u has another number of columns or channels.
        TypeError
            u is complex, or (as NamespaceMismatchError) of another library than the model.
        FloatingPointError
            The state is no longer finite, with ``check_finite=True``.
        """
        xp: Any = self.model.namespace
        if not ns.is_array(u):
            u = xp.asarray(np.asarray(u), device=self.model.device)
        library = str(ns.library_of(u))
        if ns.library_module(library) is not xp:
            raise NamespaceMismatchError(
                f"the samples live in {library}, the model does not; move one of them with "
                "to_namespace, nothing is moved silently"
            )
        if ns.numpy_dtype(u).kind == "c":
            raise TypeError(
                "a stream takes real samples, found complex ones; feed real and imaginary parts "
                "as two columns, stream(columns=2)"
            )
        samples = ns.astype(u, self._dtype)
        shape, one = tuple(samples.shape), self._shape_in
        single = shape == one
        if not single and (len(shape) != len(one) + 1 or shape[1:] != one):
            raise ShapeMismatchError(
                f"the stream takes one sample of shape {one} or several, of shape "
                f"(l, {', '.join(map(str, one))}), found {shape}"
            )
        rows = 1 if single else shape[0]
        columns = self.columns or 1
        block = xp.reshape(samples, (rows * (math.prod(one) // columns), columns))
        answers, self.state = self._one(block) if rows == 1 else self._many(block)
        self.position += rows
        if self.check_finite and not bool(xp.all(xp.isfinite(self.state))):
            raise FloatingPointError(
                f"the state is not finite after {self.position} samples; the input was not, or "
                "the model is unstable"
            )
        return xp.reshape(answers, self._shape_out if single else (rows, *self._shape_out))

    def _one(self, block: Any) -> tuple[Any, Any]:
        """One sample: a few numbers, for which the kernel's chunks are too much ado."""
        xp = ns.array_namespace(block)
        samples = xp.permute_dims(block, (1, 0))
        seen = self.state @ self._seen
        seen = xp.real(seen) if ns.numpy_dtype(seen).kind == "c" else seen
        driven = ns.astype(samples, ns.numpy_dtype(self._driven)) @ self._driven
        answer = seen + samples @ self._first
        return xp.permute_dims(answer, (1, 0)), self._pole * self.state + driven

    def _many(self, block: Any) -> tuple[Any, Any]:
        scan = kernel("diagonal_scan", ns.library_of(block))
        return scan(self._tables, block, self.state)


def at_rest(tables: tuple[Any, ...], columns: int) -> Any:
    """The state (columns, N) of a model that has seen nothing."""
    powers = tables[3]
    xp = ns.array_namespace(powers)
    shape = (columns, powers.shape[1])
    return xp.zeros(shape, dtype=powers.dtype, device=ns.device_of(powers))


def _initial(N: int, init: str) -> tuple[np.ndarray, np.ndarray]:
    n, ones = np.arange(N), np.ones(N)
    if init == "real":
        return -(n + 1.0), ones
    if init == "lin":
        return -0.5 + 1j * math.pi * n, ones
    if init == "inv":
        return -0.5 + 1j * (2 * N / math.pi) * (2 * N / (2 * n + 1) - 1), ones
    A, V = legs_normal_modes(N)
    return A, 0.5 * (V.conj().T @ hippo_legs(2 * N)[1])


def one_of(value: Any, name: str, allowed: tuple[str, ...]) -> str:
    """``value``, which has to be one of those allowed."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, found {value!r}")
    return value


def _check_number(value: Any, name: str) -> None:
    if not ns.is_scalar(value) or ns.is_complex_scalar(ns.as_scalar(value)):
        raise TypeError(f"{name} must be a real number or a 0-d array, found {value!r}")
    if not math.isfinite(ns.detached_value(value)):
        raise ValueError(f"{name} must be finite, found {ns.detached_value(value)}")


def _largest_real_part(A: Any) -> float:
    x = A.detach() if hasattr(A, "detach") else A
    xp = ns.array_namespace(x)
    return float(xp.max(xp.real(x) if ns.numpy_dtype(x).kind == "c" else x))


def _growth(z: Any) -> Any:
    """(exp(z) - 1) / z, by its series near zero, where its derivative would be 0 / 0."""
    xp = ns.array_namespace(z)
    near = xp.abs(z) < 1e-4
    safe = xp.where(near, xp.ones_like(z), z)
    series = 1 + z * (0.5 + z * (1 / 6 + z / 24))
    return xp.where(near, series, xp.expm1(safe) / safe)


def _log_of_trapezoidal(z: Any) -> Any:
    """log((1 + z / 2) / (1 - z / 2)), complex where that is negative; -700 for log 0."""
    xp = ns.array_namespace(z)
    half = z / 2
    if ns.numpy_dtype(z).kind == "f" and _largest_real_part(-half) > 1:
        half = ns.astype(half, np.dtype(np.complex128))
    at_zero = half == -1
    safe = xp.where(at_zero, xp.zeros_like(half), half)
    log = xp.where(at_zero, -LARGEST_EXPONENT * xp.ones_like(half), xp.log1p(safe))
    return log - xp.log1p(-half)


def _guarded_reciprocal(z: Any) -> Any:
    """1 / z, small rather than huge where z is zero up to rounding."""
    xp = ns.array_namespace(z)
    if ns.numpy_dtype(z).kind == "f":
        return z / (z * z + SMALLEST_SUM**2)
    # |z|² of a huge z overflows
    size = xp.abs(z)
    large = size > 1
    ordinary = xp.where(large, z, xp.ones_like(z))
    near = xp.conj(z) / (xp.where(large, xp.zeros_like(size), size) ** 2 + SMALLEST_SUM**2)
    return xp.where(large, 1 / ordinary, near)
