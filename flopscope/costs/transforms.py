"""Fourier transforms and the direct methods of linear algebra, by their textbook counts.

What iterates until it converges (eigenvalues, singular values) is left uncosted.
"""

from __future__ import annotations

from fractions import Fraction
from math import log2

from flopscope.costs.operands import operand, product, real_multiplies, result
from flopscope.costs.registry import Work, formula
from flopscope.records import OpCall, TensorSpec


@formula("aten::_fft_c2c")
def _fft(op: OpCall) -> Work:
    """5 N log2 N for each transform of N complex points, N over all transformed dimensions."""
    return Work(other_flops=_transform_flops(op, operand(op, "self")))


@formula("aten::_fft_r2c")
def _real_fft(op: OpCall) -> Work:
    """2.5 N log2 N for N real points: half of the complex transform."""
    return Work(other_flops=_transform_flops(op, operand(op, "self")) // 2)


@formula("aten::_fft_c2r")
def _inverse_real_fft(op: OpCall) -> Work:
    """2.5 N log2 N for the N real points of the output."""
    return Work(other_flops=_transform_flops(op, result(op)) // 2)


@formula("aten::linalg_cholesky_ex", "aten::cholesky")
def _cholesky(op: OpCall) -> Work:
    """n^3 / 3 (LAPACK Working Note 41, as the three below)."""
    return _cubic(op, operand(op, "self"), Fraction(1, 3))


@formula("aten::linalg_lu_factor_ex", "aten::_linalg_det", "aten::_linalg_slogdet")
def _lu(op: OpCall) -> Work:
    """2 n^3 / 3; of an m x n matrix, k the lesser: 2 (m n k - (m + n) k^2 / 2 + k^3 / 3)."""
    matrix = operand(op, "A")
    rows, columns = matrix.shape[-2:]
    least = min(rows, columns)
    one = 2 * (rows * columns * least - Fraction((rows + columns) * least**2, 2) + Fraction(least**3, 3))
    return Work(other_flops=_real_flops(op, one * product(matrix.shape[:-2])))


@formula("aten::linalg_inv_ex")
def _inverse(op: OpCall) -> Work:
    """2 n^3: factors and their inverses."""
    return _cubic(op, operand(op, "A"), Fraction(2))


@formula("aten::_linalg_solve_ex")
def _solve(op: OpCall) -> Work:
    """2 n^3 / 3 for the factors and 2 n^2 for each right-hand side."""
    matrix, right = operand(op, "A"), operand(op, "B")
    factors = _cubic(op, matrix, Fraction(2, 3)).other_flops
    return Work(other_flops=factors + _real_flops(op, Fraction(2 * right.numel * matrix.shape[-1])))


@formula("aten::linalg_solve_triangular", "aten::triangular_solve", "aten::cholesky_solve")
def _solve_triangular(op: OpCall) -> Work:
    """n^2 for each right-hand side; twice for a Cholesky factor."""
    if op.op == "aten::linalg_solve_triangular":
        matrix, right = operand(op, "self"), operand(op, "B")
    else:
        matrix, right = operand(op, "A", "input2"), operand(op, "self")
    sweeps = 2 if op.op == "aten::cholesky_solve" else 1
    return Work(other_flops=_real_flops(op, Fraction(sweeps * right.numel * matrix.shape[-1])))


def _transform_flops(op: OpCall, points: TensorSpec) -> int:
    length = product([points.shape[dim] for dim in op.value("dim", ())])
    if length < 2:
        return 0
    return round(5 * points.numel * log2(length))


def _cubic(op: OpCall, matrix: TensorSpec, factor: Fraction) -> Work:
    size = matrix.shape[-1]
    return Work(other_flops=_real_flops(op, factor * size**3 * product(matrix.shape[:-2])))


def _real_flops(op: OpCall, flops: Fraction) -> int:
    return round(flops) * real_multiplies(op)
