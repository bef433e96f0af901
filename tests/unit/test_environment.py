"""show_config and its advice."""

from __future__ import annotations

import io

import pytest

import structops as so
from structops.environment import _advice


def test_report_names_versions_threads_and_blas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRUCTOPS_NUM_THREADS", "3")
    stream = io.StringIO()
    so.show_config(stream)
    text = stream.getvalue()
    assert text.startswith(f"structops {so.__version__}\n")
    assert "numpy " in text
    assert "threads of structops' kernels: 3" in text
    assert "BLAS: " in text


def test_report_goes_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    so.show_config()
    assert capsys.readouterr().out.startswith("structops ")


@pytest.mark.parametrize(
    ("core", "extensions", "advised"),
    [
        ("Haswell", ["X86_V3", "X86_V4"], True),
        ("Zen", ["AVX512F"], True),
        ("Haswell", ["AVX2"], False),
        ("SkylakeX", ["X86_V4"], False),
        ("Cooperlake", ["X86_V4"], False),
    ],
)
def test_advice_is_given_where_wider_kernels_are_possible(
    core: str, extensions: list[str], advised: bool
) -> None:
    library = {"internal_api": "openblas", "architecture": core}
    lines = _advice([library], extensions)
    assert bool(lines) == advised
    if advised:
        assert core in lines[0]
        assert "OPENBLAS_CORETYPE" in lines[1]


def test_advice_is_about_openblas_only() -> None:
    assert _advice([{"internal_api": "mkl", "architecture": None}], ["X86_V4"]) == []
