"""Compiled convolutions of ten taps by minimal filtering (Winograd), with 2.8 times fewer multiplications.

m neighbouring outputs of a filter of r taps need m + r - 1 multiplications instead of m * r: inputs and taps are
treated as polynomials, evaluated at m + r - 1 points, multiplied there, and interpolated. A filter of ten taps is two
of five, which share the points and the interpolation. At each point the products over all channels are one matrix
product, the only costly step. The points are small fractions, exact in the tables; with these the error against float64
is that of 5 to 10 roundings.

Arrays are flat float32, and positions in them count floats. There are no bounds checks: `winograd` sizes the arrays.
All compiled code is in this file, since Numba's cache tracks changes by file.

Sources: Winograd, "Arithmetic Complexity of Computations" (1980); Lavin and Gray, "Fast Algorithms for Convolutional
Neural Networks" (2016); Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication" (2008).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from inference.compiled import entry

Floats = NDArray[np.float32]
Matrix = list[list[Fraction]]

TAPS = 5
"""Taps of one part of a filter."""
PARTS = 2
POINTS: dict[int, Sequence[Fraction | int]] = {
    2: (0, 1, -1, 2, Fraction(-1, 2)),
    6: (0, 1, -1, 2, -2, Fraction(1, 2), Fraction(-1, 2), 4, Fraction(-1, 4)),
}
"""The points of evaluation, besides infinity, by the number of outputs computed at once."""


def _lanes() -> int:
    """Floats in a vector register."""
    features = llvmlite.binding.get_host_cpu_features()
    if features.get("avx512f"):
        return 16
    return 8 if features.get("avx2") and features.get("fma") else 4


LANES = _lanes()
ROWS = 12 if LANES == 16 else 6
"""Rows of a matrix product that are computed at once: with two vectors each they fill most registers."""


# -- the tables


def minimal_filter(outputs: int, taps: int, points: Sequence[Fraction | int]) -> tuple[Matrix, Matrix, Matrix]:
    """Return A, G and B with y = A ((G g) * (B x)): `outputs` results y of the taps g over the inputs x.

    Each point is a row of G and B, and a column of A; infinity, the last, takes the leading coefficient.
    """
    size = outputs + taps - 1

    def evaluate(coefficients: int) -> Matrix:
        finite = [[Fraction(point) ** power for power in range(coefficients)] for point in points]
        return [*finite, [Fraction(0)] * (coefficients - 1) + [Fraction(1)]]

    return _transposed(evaluate(outputs)), evaluate(taps), _transposed(_inverse(evaluate(size)))


def _transposed(matrix: Matrix) -> Matrix:
    return [list(column) for column in zip(*matrix, strict=True)]


def _inverse(matrix: Matrix) -> Matrix:
    size = len(matrix)
    rows = [[*row, *(Fraction(int(i == j)) for j in range(size))] for i, row in enumerate(matrix)]
    for column in range(size):
        pivot = next(i for i in range(column, size) if rows[i][column])
        rows[column], rows[pivot] = rows[pivot], rows[column]
        rows[column] = [value / rows[column][column] for value in rows[column]]
        for i in range(size):
            if i != column:
                factor = rows[i][column]
                rows[i] = [value - factor * other for value, other in zip(rows[i], rows[column], strict=True)]
    return [row[size:] for row in rows]


FILTERS = {outputs: minimal_filter(outputs, TAPS, points) for outputs, points in POINTS.items()}


def pack_filter(weight: NDArray[np.float32], outputs: int) -> Floats:
    """Return a filter (out, in, 10) evaluated at each point, in the layout of `convolve`."""
    table = np.array(FILTERS[outputs][1], dtype=np.float64)
    parts = weight.astype(np.float64).reshape(*weight.shape[:2], PARTS, TAPS)
    at_points = np.einsum("pr,oisr->psio", table, parts)  # in float64: they are rounded once
    return np.concatenate([_panels(point.reshape(-1, len(weight)), padded=True) for point in at_points])


def pack_dense(weight: NDArray[np.float32], bias: NDArray[np.float32]) -> Floats:
    """Return a filter (out, in, taps) and its bias (out,), in the layout of `dense`, for at least `LANES` outputs."""
    taps = weight.transpose(2, 1, 0).reshape(-1, len(weight))
    return _panels(np.concatenate([bias[None], taps]), padded=False)


def vectors(channels: int) -> int:
    """Return how many vectors hold so many channels."""
    return -(-channels // LANES)


def _panels(matrix: NDArray[Any], *, padded: bool) -> Floats:
    """Cut (k, n) into consecutive panels of two vectors' columns; the last one may have one vector.

    If `padded`, zeros fill the last vector; else it starts earlier, and repeats columns.
    """
    inner, columns = matrix.shape
    count = vectors(columns)
    if padded:
        matrix = np.pad(matrix, ((0, 0), (0, count * LANES - columns)))
    panels = []
    for vector in range(0, count, 2):
        width = min(2, count - vector) * LANES
        start = min(vector * LANES, matrix.shape[1] - width)
        panels.append(matrix[:, start : start + width].reshape(inner * width))
    return np.concatenate(panels).astype(np.float32)


# -- LLVM instructions, for what Numba would vectorise only by chance

_FLOAT = ir.FloatType()
_PLACE = ir.IntType(64)
_VECTOR = ir.VectorType(_FLOAT, LANES)
_ARRAY = types.Array(types.float32, 1, "C")
_INT = types.int64


class _Emit:
    """Writes instructions on vectors."""

    def __init__(self, context: Any, builder: Any) -> None:
        self._context = context
        self.builder = builder

    def base(self, array: Any) -> Any:
        return self._context.make_array(_ARRAY)(self._context, self.builder, array).data

    def place(self, start: Any, step: Any, times: int) -> Any:
        return self.builder.add(start, self.builder.mul(step, ir.Constant(_PLACE, times)))

    def load(self, base: Any, place: Any, vector: int = 0) -> Any:
        return self.builder.load(self._pointer(base, place, vector), align=4)

    def store(self, value: Any, base: Any, place: Any, vector: int = 0) -> None:
        self.builder.store(value, self._pointer(base, place, vector), align=4)

    def _pointer(self, base: Any, place: Any, vector: int) -> Any:
        at = self.builder.add(place, ir.Constant(_PLACE, vector * LANES))
        return self.builder.bitcast(self.builder.gep(base, [at]), _VECTOR.as_pointer())

    def broadcast(self, base: Any, place: Any) -> Any:
        """One float in all lanes."""
        undefined, first = ir.Constant(_VECTOR, ir.Undefined), ir.Constant(ir.IntType(32), 0)
        scalar = self.builder.load(self.builder.gep(base, [place]))
        lanes = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        return self.builder.shuffle_vector(self.builder.insert_element(undefined, scalar, first), undefined, lanes)

    def multiply_add(self, a: Any, b: Any, c: Any) -> Any:
        return self.builder.call(self._function(f"llvm.fma.v{LANES}f32", 3), [a, b, c])

    def largest(self, a: Any, b: Any) -> Any:
        """The maximum, or NaN."""
        return self.builder.call(self._function(f"llvm.maximum.v{LANES}f32", 2), [a, b])

    def combination(self, factors: Sequence[Fraction], values: Sequence[Any], start: Any) -> Any:
        """The sum of `values` by `factors`, and of `start` if there is one."""
        total = start
        for factor, value in zip(factors, values, strict=True):
            if factor and total is None:
                total = value if factor == 1 else self.builder.fmul(value, constant(factor))
            elif factor:
                total = self.multiply_add(value, constant(factor), total)
        return total

    def _function(self, name: str, arguments: int) -> Any:
        kind = ir.FunctionType(_VECTOR, [_VECTOR] * arguments)
        return cgutils.get_or_insert_function(self.builder.module, kind, name)  # type: ignore[no-untyped-call]


def constant(value: Fraction | int) -> Any:
    """A number in all lanes."""
    return ir.Constant(_VECTOR, [float(np.float32(float(value)))] * LANES)


def _product(width: int, *, last: bool) -> Any:
    """Make `product(a, place, step, b, place, k, c, place, step)`: `ROWS` rows of a matrix product.

    c[i] = a[i] b for rows i of `k` floats, `step` apart, and a panel of `width` vectors. In the `last` step of a layer
    the panel starts with a bias, and the ReLU is applied.
    """

    def product(
        _: Any, a: Any, at_a: Any, step_a: Any, b: Any, at_b: Any, k: Any, c: Any, at_c: Any, step_c: Any
    ) -> Any:
        def emit(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
            to = _Emit(context, builder)
            base_a, base_b, base_c = (to.base(arguments[i]) for i in (0, 3, 6))
            at_a, step_a, at_b, k, at_c, step_c = (arguments[i] for i in (1, 2, 4, 5, 7, 8))
            one, panel = ir.Constant(_PLACE, 1), ir.Constant(_PLACE, width * LANES)
            rows = [to.place(at_a, step_a, row) for row in range(ROWS)]
            begin: list[Any] = [constant(0)] * (ROWS * width)
            if last:
                begin = [to.load(base_b, at_b, vector) for vector in range(width)] * ROWS
                at_b = builder.add(at_b, panel)
            before, loop, after = builder.block, builder.append_basic_block(), builder.append_basic_block()
            builder.branch(loop)
            builder.position_at_end(loop)
            column, place = builder.phi(_PLACE), builder.phi(_PLACE)
            sums = [builder.phi(_VECTOR) for _ in begin]
            right = [to.load(base_b, place, vector) for vector in range(width)]
            grown = []
            for row in range(ROWS):
                left = to.broadcast(base_a, builder.add(rows[row], column))
                grown += [to.multiply_add(left, right[i], sums[row * width + i]) for i in range(width)]
            next_column, next_place = builder.add(column, one), builder.add(place, panel)
            starts, nexts = [ir.Constant(_PLACE, 0), at_b, *begin], [next_column, next_place, *grown]
            for phi, start, following in zip([column, place, *sums], starts, nexts, strict=True):
                phi.add_incoming(start, before)
                phi.add_incoming(following, loop)
            builder.cbranch(builder.icmp_signed("<", next_column, k), loop, after)
            builder.position_at_end(after)
            for index, value in enumerate(grown):
                row, vector = divmod(index, width)
                result = to.largest(value, constant(0)) if last else value
                to.store(result, base_c, to.place(at_c, step_c, row), vector)
            return context.get_dummy_value()

        return types.void(_ARRAY, _INT, _INT, _ARRAY, _INT, _INT, _ARRAY, _INT, _INT), emit

    return intrinsic(product)


def _combination(matrix: Matrix, pool: int = 0) -> Any:
    """Make `combination(x, place, step, y, place, step, bias, place)`: y = matrix x for one vector of channels.

    x and y are rows, `step` apart. With `pool`, the bias is added, and y is the maximum of each `pool` rows, or 0.
    """

    def combination(_: Any, x: Any, at_x: Any, step_x: Any, y: Any, at_y: Any, step_y: Any, bias: Any, at: Any) -> Any:
        def emit(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
            to = _Emit(context, builder)
            base_x, base_y, base_bias = (to.base(arguments[i]) for i in (0, 3, 6))
            at_x, step_x, at_y, step_y, at = (arguments[i] for i in (1, 2, 4, 5, 7))
            values = [to.load(base_x, to.place(at_x, step_x, row)) for row in range(len(matrix[0]))]
            start = to.load(base_bias, at) if pool else None
            rows = [to.combination(factors, values, start) for factors in matrix]
            if pool:
                rows = [_largest(to, rows[i : i + pool]) for i in range(0, len(rows), pool)]
            for row, value in enumerate(rows):
                to.store(value, base_y, to.place(at_y, step_y, row))
            return context.get_dummy_value()

        return types.void(_ARRAY, _INT, _INT, _ARRAY, _INT, _INT, _ARRAY, _INT), emit

    return intrinsic(combination)


def _largest(to: _Emit, values: Sequence[Any]) -> Any:
    found = constant(0)
    for value in values:
        found = to.largest(value, found)
    return found


_two_vectors, _one_vector = _product(2, last=False), _product(1, last=False)
_last_two_vectors, _last_one_vector = _product(2, last=True), _product(1, last=True)
_evaluate_2, _evaluate_6 = _combination(FILTERS[2][2]), _combination(FILTERS[6][2])
_interpolate_2, _interpolate_6 = _combination(FILTERS[2][0], 1), _combination(FILTERS[6][0], 1)
_interpolate_6_by_3 = _combination(FILTERS[6][0], 3)


# -- the layers


@entry
def dense(
    x: Floats, at_x: int, step: int, inner: int, panels: Floats, rows: int, y: Floats, at_y: int, out: int
) -> None:
    """Multiply `rows` rows of `inner` floats, `step` apart in `x`, by `panels` (`pack_dense`), and apply a ReLU.

    `y` receives (rows, out); there are at least `ROWS` rows. Rows of `x` that overlap make it a convolution.
    """
    count = (out + LANES - 1) // LANES
    panel = 0
    for vector in range(0, count, 2):
        width = min(2, count - vector)
        channel = min(vector * LANES, out - width * LANES)
        for begin in range(0, rows, ROWS):
            row = min(begin, rows - ROWS)
            if width == 2:
                _last_two_vectors(x, at_x + row * step, step, panels, panel, inner, y, at_y + row * out + channel, out)
            else:
                _last_one_vector(x, at_x + row * step, step, panels, panel, inner, y, at_y + row * out + channel, out)
        panel += width * LANES * (inner + 1)


@entry
def convolve(
    x: Floats,
    height: int,
    channels: int,
    outputs: int,
    pool: int,
    panels: Floats,
    bias: Floats,
    frames: int,
    tiles: int,
    at_points: Floats,
    products: Floats,
    y: Floats,
    out_height: int,
) -> None:
    """Convolve `frames` sequences in `x` (frames, height, channels) by ten taps, with bias and ReLU, into `y`.

    `y` is (frames, out_height, len(bias)), and receives `tiles` times `outputs` (a key of `FILTERS`) rows of each, or
    with `pool` (1, or 3 of 6) the maximum of each `pool` rows. `panels` come from `pack_filter`; `at_points` and
    `products` are workspaces.
    """
    out, points = len(bias), outputs + TAPS - 1
    inner = PARTS * channels
    rows = (frames * tiles + ROWS - 1) // ROWS * ROWS
    count = (out + LANES - 1) // LANES
    width = count * LANES
    for frame in range(frames):
        for tile in range(tiles):
            for part in range(PARTS):
                at_x = (frame * height + tile * outputs + part * TAPS) * channels
                at = (frame * tiles + tile) * inner + part * channels
                for begin in range(0, channels, LANES):
                    channel = min(begin, channels - LANES)  # the last vector repeats some channels
                    if outputs == 2:
                        _evaluate_2(x, at_x + channel, channels, at_points, at + channel, rows * inner, bias, 0)
                    else:
                        _evaluate_6(x, at_x + channel, channels, at_points, at + channel, rows * inner, bias, 0)
    panel = 0
    for point in range(points):
        for vector in range(0, count, 2):
            for row in range(0, rows, ROWS):
                at = (point * rows + row) * inner
                to = (point * rows + row) * width + vector * LANES
                if vector + 1 < count:
                    _two_vectors(at_points, at, inner, panels, panel, inner, products, to, width)
                else:
                    _one_vector(at_points, at, inner, panels, panel, inner, products, to, width)
            panel += min(2, count - vector) * LANES * inner
    for frame in range(frames):
        for tile in range(tiles):
            at = (frame * tiles + tile) * width
            at_y = (frame * out_height + tile * outputs // pool) * out
            for begin in range(0, out, LANES):
                channel = min(begin, out - LANES)
                if outputs == 2:
                    _interpolate_2(products, at + channel, rows * width, y, at_y + channel, out, bias, channel)
                elif pool == 1:
                    _interpolate_6(products, at + channel, rows * width, y, at_y + channel, out, bias, channel)
                else:
                    _interpolate_6_by_3(products, at + channel, rows * width, y, at_y + channel, out, bias, channel)


ENTRIES: Sequence[Callable[..., None]] = (dense, convolve)
