"""`har-cnn`'s convolutions at bfloat16, compiled for the vector instructions of some x86 processors (AVX512-BF16).

One instruction multiplies 16 lanes of two bfloat16 numbers by 16 lanes of two others, and adds the 16 dot products to
float32 sums. Here a lane is an output: two neighbouring numbers of a row, broadcast to all lanes, meet two weights of
16 outputs. The ten readings under a filter are contiguous in memory, so they form one long row, and the rows of
neighbouring outputs overlap: nothing is copied. Twelve rows by 32 outputs fill most registers, and stay there over all
taps. Bias, ReLU and pooling are computed there, too, in float32, and each output is rounded to bfloat16 once.

Three convolutions take one frame at a time. The fourth has two output rows a frame, too few to load its weights for, so
it takes twelve frames at once.

Arrays are flat. 16-bit ones hold the bits of bfloat16, and positions count numbers. There are no bounds checks:
`avx512` sizes the arrays. All compiled code is in this file, since Numba's cache tracks changes by file.

Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, "VDPBF16PS".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from inference.compiled import lean_entry, lean_part
from inference.devices.llvm_bfloat import BFloat

Floats = NDArray[np.float32]
Halves = NDArray[np.uint16]

LANES: Final = 16
ROWS: Final = 12
"""Rows of a product that are computed at once; frames that the last convolution takes at once."""
PANEL: Final = 2 * LANES
"""Outputs that are computed at once."""

SLOTS: Final = 80
AXES: Final = 3
TAPS: Final = 10
READINGS: Final = SLOTS * AXES
POOL: Final = 3
POOLED: Final = 20
SECOND: Final = POOL * POOLED
"""Rows of the second convolution that the pooling uses, of 62, and below those of the first that they need, of 71."""
FIRST: Final = SECOND + TAPS - 1
THIRD: Final = POOLED - TAPS + 1
FOURTH: Final = THIRD - TAPS + 1
CHANNELS: Final = 100
MOST: Final = CHANNELS // PANEL * PANEL
"""Of 100 outputs, those that fill panels; the other four use half a panel."""
FEATURES: Final = 160
FRAME: Final = THIRD * FEATURES
"""Distance between frames that wait for the last convolution."""
WORTH_ALL: Final = 4
"""From this many frames on, the last convolution is computed for all twelve, whatever the others' places hold."""


class Layers(NamedTuple):
    """The weights of the four convolutions, as `avx512` packs them, and their biases, to a multiple of 16."""

    weights_1: Halves
    weights_2: Halves
    weights_3: Halves
    weights_4: Halves
    bias_1: Floats
    bias_2: Floats
    bias_3: Floats
    bias_4: Floats


class Workspace(NamedTuple):
    """Activations between the layers: of a frame, of twelve in `third`; and the last convolution's (2, 12, 160)."""

    frame: Halves
    first: Halves
    pooled: Halves
    third: Halves
    fourth: Floats


# -- instructions

_PLACE, _HALF, _FLOAT = ir.IntType(64), ir.IntType(16), ir.FloatType()
_FOUR, _PAIR = ir.IntType(64), ir.IntType(32)
_VECTOR, _HALVES = ir.VectorType(_FLOAT, LANES), ir.VectorType(_HALF, LANES)
_PAIRS, _WEIGHTS = ir.VectorType(_PAIR, LANES), ir.VectorType(_HALF, 2 * LANES)
_ROUNDED, _TWO_EACH = ir.VectorType(BFloat(), LANES), ir.VectorType(BFloat(), 2 * LANES)
_FLOAT_ARRAY, _HALF_ARRAY = (types.Array(kind, 1, "C") for kind in (types.float32, types.uint16))
_INT = types.int64


class _Emit:
    """Writes instructions on vectors."""

    def __init__(self, context: Any, builder: Any) -> None:
        self._context = context
        self.builder = builder

    def base(self, array: Any, kind: Any) -> Any:
        return self._context.make_array(kind)(self._context, self.builder, array).data

    def place(self, start: Any, step: Any, times: int) -> Any:
        return self.builder.add(start, self.builder.mul(step, _constant(times)))

    def load(self, base: Any, place: Any, kind: Any = _VECTOR, align: int = 4) -> Any:
        return self.builder.load(self._pointer(base, place, kind), align=align)

    def store(self, value: Any, base: Any, place: Any) -> None:
        self.builder.store(value, self._pointer(base, place, value.type), align=2)

    def _pointer(self, base: Any, place: Any, kind: Any) -> Any:
        return self.builder.bitcast(self.builder.gep(base, [place]), kind.as_pointer())

    def broadcast(self, base: Any, place: Any) -> Any:
        """Two numbers in all lanes."""
        undefined, first = ir.Constant(_PAIRS, ir.Undefined), ir.Constant(_PAIR, 0)
        one = self.builder.insert_element(undefined, self.load(base, place, _PAIR, 2), first)
        lanes = ir.Constant(_PAIRS, [0] * LANES)
        return self.builder.bitcast(self.builder.shuffle_vector(one, undefined, lanes), _TWO_EACH)

    def weights(self, base: Any, place: Any) -> Any:
        """Two weights of each of 16 outputs."""
        return self.builder.bitcast(self.load(base, place, _WEIGHTS, 64), _TWO_EACH)

    def add_products(self, sums: Any, a: Any, b: Any) -> Any:
        return self._call("llvm.x86.avx512bf16.dpbf16ps.512", [sums, a, b])

    def largest(self, a: Any, b: Any) -> Any:
        """The maximum, or NaN."""
        return self._call(f"llvm.maximum.v{LANES}f32", [a, b])

    def rounded(self, value: Any) -> Any:
        return self.builder.bitcast(self.builder.fptrunc(value, _ROUNDED), _HALVES)

    def first_four(self, halves: Any) -> Any:
        return self.builder.extract_element(
            self.builder.bitcast(halves, ir.VectorType(_FOUR, 4)), ir.Constant(_PAIR, 0)
        )

    def _call(self, name: str, arguments: Sequence[Any]) -> Any:
        kind = ir.FunctionType(_VECTOR, [argument.type for argument in arguments])
        function = cgutils.get_or_insert_function(self.builder.module, kind, name)  # type: ignore[no-untyped-call]
        return self.builder.call(function, arguments)


def _constant(number: int) -> Any:
    return ir.Constant(_PLACE, number)


def _product(rows: int, width: int, *, pool: int = 1, to_floats: bool = False) -> Any:
    """Make `product(x, place, step, pairs, weights, place, bias, place, y, place, step)`.

    It multiplies `rows` rows of `pairs` pairs of numbers, `step` apart in `x`, by weights of `width` times 16 outputs,
    and applies bias and ReLU. `y` receives the rows, or the maximum of each `pool` of them, `step` apart: as floats, or
    rounded; with a width of one, only the first four outputs.
    """

    def product(
        _: Any,
        x: Any,
        at_x: Any,
        step_x: Any,
        pairs: Any,
        weights: Any,
        at_weights: Any,
        bias: Any,
        at_bias: Any,
        y: Any,
        at_y: Any,
        step_y: Any,
    ) -> Any:
        written = _FLOAT_ARRAY if to_floats else _HALF_ARRAY

        def emit(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
            to = _Emit(context, builder)
            x, weights = to.base(arguments[0], _HALF_ARRAY), to.base(arguments[4], _HALF_ARRAY)
            bias, y = to.base(arguments[6], _FLOAT_ARRAY), to.base(arguments[8], written)
            at_x, step_x, pairs, at_weights, at_bias, at_y, step_y = (arguments[i] for i in (1, 2, 3, 5, 7, 9, 10))
            starts = [to.place(at_x, step_x, row) for row in range(rows)]
            begin = [to.load(bias, to.place(at_bias, _constant(LANES), vector)) for vector in range(width)] * rows
            before, loop, after = builder.block, builder.append_basic_block(), builder.append_basic_block()
            builder.branch(loop)
            builder.position_at_end(loop)
            pair = builder.phi(_PLACE)
            sums = [builder.phi(_VECTOR) for _ in begin]
            at = to.place(at_weights, pair, 2 * LANES * width)
            right = [to.weights(weights, to.place(at, _constant(2 * LANES), vector)) for vector in range(width)]
            grown = []
            for row in range(rows):
                left = to.broadcast(x, to.place(starts[row], pair, 2))
                grown += [to.add_products(sums[row * width + i], left, right[i]) for i in range(width)]
            following = builder.add(pair, _constant(1))
            for phi, first, then in zip([pair, *sums], [_constant(0), *begin], [following, *grown], strict=True):
                phi.add_incoming(first, before)
                phi.add_incoming(then, loop)
            builder.cbranch(builder.icmp_signed("<", following, pairs), loop, after)
            builder.position_at_end(after)
            for row in range(0, rows, pool):
                for vector in range(width):
                    value = ir.Constant(_VECTOR, [0.0] * LANES)
                    for pooled in range(row, row + pool):
                        value = to.largest(grown[pooled * width + vector], value)
                    if not to_floats:
                        value = to.rounded(value) if width > 1 else to.first_four(to.rounded(value))
                    to.store(value, y, to.place(to.place(at_y, step_y, row // pool), _constant(LANES), vector))
            return context.get_dummy_value()

        rows_of = _HALF_ARRAY, _INT, _INT, _INT
        return types.void(*rows_of, _HALF_ARRAY, _INT, _FLOAT_ARRAY, _INT, written, _INT, _INT), emit

    return intrinsic(product)


def _rounded(_: Any, values: Any, at: Any, y: Any, at_y: Any) -> Any:
    """Round 16 floats."""

    def emit(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        to = _Emit(context, builder)
        value = to.load(to.base(arguments[0], _FLOAT_ARRAY), arguments[1])
        to.store(to.rounded(value), to.base(arguments[2], _HALF_ARRAY), arguments[3])
        return context.get_dummy_value()

    return types.void(_FLOAT_ARRAY, _INT, _HALF_ARRAY, _INT), emit


_round: Any = intrinsic(_rounded)
_panel, _four = _product(ROWS, 2), _product(ROWS, 1)
_pooled_panel, _pooled_four = _product(ROWS, 2, pool=POOL), _product(ROWS, 1, pool=POOL)
_third_panel = _product(THIRD, 2)
_last_panel, _last_panel_of_one = _product(ROWS, 2, to_floats=True), _product(FOURTH, 2, to_floats=True)


# -- the layers


@lean_part
def _convolve_first(work: Workspace, weights: Halves, bias: Floats) -> None:
    pairs = TAPS * AXES // 2
    for start in range(0, FIRST, ROWS):
        row = min(start, FIRST - ROWS)  # some are computed twice
        at = 0
        for output in range(0, MOST, PANEL):
            to = row * CHANNELS + output
            _panel(work.frame, row * AXES, AXES, pairs, weights, at, bias, output, work.first, to, CHANNELS)
            at += pairs * 2 * PANEL
        to = row * CHANNELS + MOST
        _four(work.frame, row * AXES, AXES, pairs, weights, at, bias, MOST, work.first, to, CHANNELS)


@lean_part
def _convolve_second(work: Workspace, weights: Halves, bias: Floats) -> None:
    """With the pooling."""
    pairs = TAPS * CHANNELS // 2
    x, y = work.first, work.pooled
    for row in range(0, SECOND, ROWS):
        at, to = 0, row // POOL * CHANNELS
        for output in range(0, MOST, PANEL):
            _pooled_panel(x, row * CHANNELS, CHANNELS, pairs, weights, at, bias, output, y, to + output, CHANNELS)
            at += pairs * 2 * PANEL
        _pooled_four(x, row * CHANNELS, CHANNELS, pairs, weights, at, bias, MOST, y, to + MOST, CHANNELS)


@lean_part
def _convolve_third(work: Workspace, frame: int, weights: Halves, bias: Floats) -> None:
    pairs = TAPS * CHANNELS // 2
    for output in range(0, FEATURES, PANEL):
        at, to = output * pairs * 2, frame * FRAME + output
        _third_panel(work.pooled, 0, CHANNELS, pairs, weights, at, bias, output, work.third, to, FEATURES)


@lean_part
def _convolve_fourth(work: Workspace, frames: int, weights: Halves, bias: Floats) -> None:
    pairs = TAPS * FEATURES // 2
    x, y = work.third, work.fourth
    for output in range(0, FEATURES, PANEL):
        at = output * pairs * 2
        if frames < WORTH_ALL:
            for frame in range(frames):
                to = frame * FEATURES + output
                _last_panel_of_one(x, frame * FRAME, FEATURES, pairs, weights, at, bias, output, y, to, ROWS * FEATURES)
        else:
            for row in range(FOURTH):
                to = row * ROWS * FEATURES + output
                _last_panel(x, row * FEATURES, FRAME, pairs, weights, at, bias, output, y, to, FEATURES)


@lean_entry
def convolve(values: Floats, count: int, layers: Layers, work: Workspace, features: Floats) -> None:
    """Take standardised frames (count, 80, 3) through all convolutions; `features` receives (count, 160)."""
    for start in range(0, count, ROWS):
        frames = min(ROWS, count - start)
        for frame in range(frames):
            for at in range(0, READINGS, LANES):
                _round(values, (start + frame) * READINGS + at, work.frame, at)
            _convolve_first(work, layers.weights_1, layers.bias_1)
            _convolve_second(work, layers.weights_2, layers.bias_2)
            _convolve_third(work, frame, layers.weights_3, layers.bias_3)
        _convolve_fourth(work, frames, layers.weights_4, layers.bias_4)
        for i in range(frames * FEATURES):
            features[start * FEATURES + i] = (work.fourth[i] + work.fourth[ROWS * FEATURES + i]) / np.float32(FOURTH)


ENTRIES: Sequence[Callable[..., None]] = (convolve,)
