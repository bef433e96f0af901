"""Solvers: what people want solved, written with the public interface of structops.

From the root of the repository ``import solvers`` would find this folder and make a second
copy of every class, hence the guard: the name of this package is ``structops.solvers``.
"""

if not __name__.startswith("structops."):
    raise ImportError(
        f"this package was imported as {__name__!r}, but its name is 'structops.solvers': "
        "write 'import structops.solvers' (after 'pip install -e .' in the repository root)"
    )

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submodules=["gaussian_process", "regression", "sparse_bayesian"],
    submod_attrs={
        "gaussian_process.grid": ["GridGP"],
        "gaussian_process.interpolated": ["InterpolatedGP"],
        "gaussian_process.site_likelihoods": ["Bernoulli", "Poisson", "StudentT"],
        "gaussian_process.space_time": ["SpaceTimeGP"],
        "gaussian_process.state_space": ["StateSpaceGP"],
        "gaussian_process.state_space_glm": ["StateSpaceGLM"],
        "regression": ["LeastSquaresResult", "SketchedRegression"],
        "sparse_bayesian.classic": ["SparseBayesianLearning"],
        "sparse_bayesian.kronecker": ["KroneckerSBL"],
        "sparse_bayesian.posterior": ["KroneckerPosterior"],
        "sparse_bayesian.pursuit": ["PursuitResult", "orthogonal_matching_pursuit"],
    },
)
