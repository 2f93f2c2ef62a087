"""`har-cnn`'s convolutions at bfloat16, compiled for the matrix unit of some x86 processors (AMX).

The unit multiplies tiles, 16 rows of 32 bfloat16 numbers by 32 rows of 16, and adds to 16 x 16 float32 sums. The ten
readings under a filter are contiguous in memory, so they form one long row, and the rows of neighbouring outputs
overlap: nothing is copied to make a matrix of them. Sums stay in the unit over all taps; bias, ReLU and pooling are
computed in float32, and each output is rounded to bfloat16 once.

The unit loads a row at once only if it lies in one cache line. So of 100 channels, 96 (three lines) are in one array,
and the other four in an array of their own: see `Workspace`.

The first two convolutions take one frame at a time, with neighbouring outputs as a tile's rows. The others take 16
frames at once, whose outputs at one position are its rows: one frame has too few outputs to fill a tile.

A NaN makes its frame's answers NaN, also in the last two readings, which the pooling leaves out: they are multiplied by
weights of 0.

Arrays are flat. 16-bit ones hold the bits of bfloat16, and positions count numbers. There are no bounds checks:
`amx_layout` sizes the arrays. All compiled code is in this file, since Numba's cache tracks changes by file.

Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 1, "Programming with Intel AMX".
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

from inference.compiled import entry, part
from inference.devices.llvm_bfloat import BFloat
from inference.devices.packing import LINE_BYTES

Floats = NDArray[np.float32]
Halves = NDArray[np.uint16]
Bytes = NDArray[np.uint8]

SIDE: Final = 16
"""Rows of a tile, and columns of a tile of sums; floats in a vector register; frames taken at once."""
DEPTH: Final = 32
"""bfloat16 numbers in a row of a tile."""
TILE: Final = SIDE * DEPTH
AT_ONCE: Final = 4
"""Tiles of rows that share each tile of weights: the first one's sum is ready when the last one's has begun."""

SLOTS: Final = 80
AXES: Final = 3
TAPS: Final = 10
READINGS: Final = SLOTS * AXES
FIRST: Final = SLOTS - TAPS + 1
"""Output rows of the first convolution. Of the second, 60 are pooled to 20; then there are 11, and finally 2."""
POOL: Final = 3
POOLED: Final = 20
THIRD: Final = POOLED - TAPS + 1
FOURTH: Final = THIRD - TAPS + 1
CHANNELS: Final = 100
MOST: Final = 96
"""Of 100 channels, those that fill cache lines."""
FEW: Final = CHANNELS - MOST
FEATURES: Final = 160

# Distances between frames, in numbers. They leave room for what the last tile reads beyond a frame. Where a tile's rows
# are of different frames they are odd numbers of cache lines, or else the rows would collide in a few cache sets.
FRAME_STEP: Final = 288
FIRST_STEP: Final = 7200
FIRST_REST: Final = 320
POOLED_STEP: Final = 1952
POOLED_REST: Final = 160
THIRD_STEP: Final = THIRD * FEATURES

# Depth of the products in tiles: for `MOST` channels, the other four, and 160 channels.
DEEP_MOST: Final = TAPS * MOST // DEPTH
DEEP_FEW: Final = -(-TAPS * FEW // DEPTH)
DEEP_ALL: Final = TAPS * FEATURES // DEPTH


class Layers(NamedTuple):
    """The weights of the four convolutions, as `amx_layout` packs them, and their biases, to a multiple of 16."""

    weights_1: Halves
    weights_2: Halves
    weights_3: Halves
    weights_4: Halves
    bias_1: Floats
    bias_2: Floats
    bias_3: Floats
    bias_4: Floats


class Workspace(NamedTuple):
    """Activations between the layers, of 16 frames; 100 channels take two arrays. `sums` holds `AT_ONCE` tiles."""

    shapes: Bytes
    frames: Halves
    first: Halves
    first_rest: Halves
    pooled: Halves
    pooled_rest: Halves
    third: Halves
    sums: Floats


# -- instructions

_PLACE, _BYTE, _HALF, _FLOAT = ir.IntType(64), ir.IntType(8), ir.IntType(16), ir.FloatType()
_VECTOR, _HALVES = ir.VectorType(_FLOAT, SIDE), ir.VectorType(_HALF, SIDE)
_FLOAT_ARRAY, _HALF_ARRAY, _BYTE_ARRAY = (
    types.Array(kind, 1, "C") for kind in (types.float32, types.uint16, types.uint8)
)
_INT = types.int64


_ROUNDED = ir.VectorType(BFloat(), SIDE)


class _Emit:
    """Writes instructions on tiles and vectors."""

    def __init__(self, context: Any, builder: Any) -> None:
        self._context = context
        self.builder = builder

    def base(self, array: Any, kind: Any) -> Any:
        return self._context.make_array(kind)(self._context, self.builder, array).data

    def place(self, start: Any, step: Any, times: int) -> Any:
        return self.builder.add(start, self.builder.mul(step, _constant(times)))

    def bytes_at(self, base: Any, place: Any) -> Any:
        return self._pointer(base, place, _BYTE)

    def load(self, base: Any, place: Any) -> Any:
        return self.builder.load(self._pointer(base, place, _VECTOR), align=4)

    def store_rounded(self, value: Any, base: Any, place: Any) -> None:
        halves = self.builder.bitcast(self.builder.fptrunc(value, _ROUNDED), _HALVES)
        self.builder.store(halves, self._pointer(base, place, _HALVES), align=2)

    def _pointer(self, base: Any, place: Any, kind: Any) -> Any:
        return self.builder.bitcast(self.builder.gep(base, [place]), kind.as_pointer())

    def largest(self, a: Any, b: Any) -> Any:
        """The maximum, or NaN."""
        return self._call(f"llvm.maximum.v{SIDE}f32", _VECTOR, [a, b])

    def tile(self, name: str, *arguments: Any) -> None:
        """An instruction of the unit, whose operands are tile numbers and memory."""
        self._call(f"llvm.x86.{name}", ir.VoidType(), arguments)

    def _call(self, name: str, result: Any, arguments: Sequence[Any]) -> Any:
        kind = ir.FunctionType(result, [argument.type for argument in arguments])
        function = cgutils.get_or_insert_function(self.builder.module, kind, name)  # type: ignore[no-untyped-call]
        return self.builder.call(function, arguments)


def _constant(number: int) -> Any:
    return ir.Constant(_PLACE, number)


def _tile(number: int) -> Any:
    return ir.Constant(_BYTE, number)


def _begun(_: Any, shapes: Any) -> Any:
    """Configure the shapes of the unit's tiles."""

    def emit(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        to = _Emit(context, builder)
        to.tile("ldtilecfg", to.bytes_at(to.base(arguments[0], _BYTE_ARRAY), _constant(0)))
        return context.get_dummy_value()

    return types.void(_BYTE_ARRAY), emit


def _ended(_: Any) -> Any:
    """Release the unit: this thread's tiles need not be saved any more."""

    def emit(context: Any, builder: Any, _: Any, _arguments: Any) -> Any:
        _Emit(context, builder).tile("tilerelease")
        return context.get_dummy_value()

    return types.void(), emit


def _products(count: int) -> Any:
    """Make `products(x, place, step, row, deep, rest, place, step, row, deep, weights, place, sums)`.

    It multiplies `count` tiles of rows, which start `step` apart in `x` and whose rows are `row` apart, by weights
    `deep` tiles deep; and the rest of the same rows, in `rest`, by the weights behind those. `sums` receives (count, 16
    rows, 16 outputs).
    """

    def products(
        _: Any,
        x: Any,
        at_x: Any,
        step_x: Any,
        row_x: Any,
        deep_x: Any,
        rest: Any,
        at_rest: Any,
        step_rest: Any,
        row_rest: Any,
        deep_rest: Any,
        weights: Any,
        at_weights: Any,
        sums: Any,
    ) -> Any:
        def emit(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
            to = _Emit(context, builder)
            weights, sums = to.base(arguments[10], _HALF_ARRAY), to.base(arguments[12], _FLOAT_ARRAY)
            at_weights = arguments[11]
            multiplier, rows = _tile(count), _tile(count + 1)
            for tile in range(count):
                to.tile("tilezero", _tile(tile))
            for part_of_x in (0, 5):
                x = to.base(arguments[part_of_x], _HALF_ARRAY)
                at_x, step, row, deep = arguments[part_of_x + 1 : part_of_x + 5]
                row_bytes = builder.mul(row, _constant(2))
                with cgutils.for_range(builder, deep) as loop:
                    at_multiplier = to.place(at_weights, loop.index, TILE)
                    to.tile("tileloadd64", multiplier, to.bytes_at(weights, at_multiplier), _constant(LINE_BYTES))
                    at = to.place(at_x, loop.index, DEPTH)
                    for tile in range(count):
                        to.tile("tileloadd64", rows, to.bytes_at(x, to.place(at, step, tile)), row_bytes)
                        to.tile("tdpbf16ps", _tile(tile), rows, multiplier)
                at_weights = to.place(at_weights, deep, TILE)
            for tile in range(count):
                to_sums = to.bytes_at(sums, _constant(tile * SIDE * SIDE))
                to.tile("tilestored64", _tile(tile), to_sums, _constant(LINE_BYTES))
            return context.get_dummy_value()

        rows_of = _HALF_ARRAY, _INT, _INT, _INT, _INT
        return types.void(*rows_of, *rows_of, _HALF_ARRAY, _INT, _FLOAT_ARRAY), emit

    return intrinsic(products)


def _answer(pool: int) -> Any:
    """Make `answer(sums, place, bias, place, y, place)`: 16 outputs of a row, or of the maximum of `pool` rows."""

    def answer(_: Any, sums: Any, at: Any, bias: Any, at_bias: Any, y: Any, at_y: Any) -> Any:
        def emit(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
            to = _Emit(context, builder)
            sums, bias = (to.base(arguments[i], _FLOAT_ARRAY) for i in (0, 2))
            at, at_bias, at_y = (arguments[i] for i in (1, 3, 5))
            value = to.load(sums, at)
            for row in range(1, pool):
                value = to.largest(value, to.load(sums, to.place(at, _constant(row), SIDE)))
            value = to.largest(builder.fadd(value, to.load(bias, at_bias)), ir.Constant(_VECTOR, [0.0] * SIDE))
            to.store_rounded(value, to.base(arguments[4], _HALF_ARRAY), at_y)
            return context.get_dummy_value()

        return types.void(_FLOAT_ARRAY, _INT, _FLOAT_ARRAY, _INT, _HALF_ARRAY, _INT), emit

    return intrinsic(answer)


def _rounded(_: Any, values: Any, at: Any, y: Any, at_y: Any) -> Any:
    """Round 16 floats."""

    def emit(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        to = _Emit(context, builder)
        value = to.load(to.base(arguments[0], _FLOAT_ARRAY), arguments[1])
        to.store_rounded(value, to.base(arguments[2], _HALF_ARRAY), arguments[3])
        return context.get_dummy_value()

    return types.void(_FLOAT_ARRAY, _INT, _HALF_ARRAY, _INT), emit


_begin, _end, _round = (intrinsic(each) for each in (_begun, _ended, _rounded))
_one_tile, _two_tiles, _four_tiles = (_products(count) for count in (1, 2, AT_ONCE))
_answer_row, _answer_largest = _answer(1), _answer(POOL)


# -- the layers


@part
def _convolve_first(work: Workspace, frame: int, weights: Halves, bias: Floats) -> None:
    """Two tiles overlap, because 71 rows are four and a half tiles."""
    x, sums = work.frames, work.sums
    at = frame * FRAME_STEP
    last = FIRST - SIDE
    for output in range(0, CHANNELS, SIDE):
        tile = output // SIDE * TILE
        _four_tiles(x, at, SIDE * AXES, AXES, 1, x, 0, 0, 0, 0, weights, tile, sums)
        _answer_rows(work, frame, 0, AT_ONCE * SIDE, bias, output)
        _one_tile(x, at + last * AXES, 0, AXES, 1, x, 0, 0, 0, 0, weights, tile, sums)
        _answer_rows(work, frame, last, SIDE, bias, output)


@part
def _answer_rows(work: Workspace, frame: int, begin: int, count: int, bias: Floats, output: int) -> None:
    """Write `count` rows of the first convolution; later rows overwrite what exceeds the last four channels."""
    for row in range(count):
        if output < MOST:
            at = frame * FIRST_STEP + (begin + row) * MOST + output
            _answer_row(work.sums, row * SIDE, bias, output, work.first, at)
        else:
            at = frame * FIRST_REST + (begin + row) * FEW
            _answer_row(work.sums, row * SIDE, bias, output, work.first_rest, at)


@part
def _convolve_second(work: Workspace, frame: int, weights: Halves, bias: Floats) -> None:
    """Convolution and pooling."""
    x, at, rest, at_rest = work.first, frame * FIRST_STEP, work.first_rest, frame * FIRST_REST
    for output in range(0, CHANNELS, SIDE):
        tile = output // SIDE * (DEEP_MOST + DEEP_FEW) * TILE
        _four_tiles(
            x, at, SIDE * MOST, MOST, DEEP_MOST, rest, at_rest, SIDE * FEW, FEW, DEEP_FEW, weights, tile, work.sums
        )
        for row in range(POOLED):
            place = row * POOL * SIDE
            if output < MOST:
                to = frame * POOLED_STEP + row * MOST + output
                _answer_largest(work.sums, place, bias, output, work.pooled, to)
            else:
                to = frame * POOLED_REST + row * FEW
                _answer_largest(work.sums, place, bias, output, work.pooled_rest, to)


@part
def _convolve_third(work: Workspace, weights: Halves, bias: Floats) -> None:
    """For 16 frames, four rows at a time; one row is computed twice."""
    x, rest = work.pooled, work.pooled_rest
    for begin in (0, AT_ONCE, THIRD - AT_ONCE):
        at, at_rest = begin * MOST, begin * FEW
        for output in range(0, FEATURES, SIDE):
            tile = output // SIDE * (DEEP_MOST + DEEP_FEW) * TILE
            _four_tiles(
                x, at, MOST, POOLED_STEP, DEEP_MOST, rest, at_rest, FEW, POOLED_REST, DEEP_FEW, weights, tile, work.sums
            )
            for row in range(AT_ONCE):
                for frame in range(SIDE):
                    to = frame * THIRD_STEP + (begin + row) * FEATURES + output
                    _answer_row(work.sums, (row * SIDE + frame) * SIDE, bias, output, work.third, to)


@part
def _convolve_fourth(work: Workspace, frames: int, weights: Halves, bias: Floats, features: Floats, start: int) -> None:
    """For 16 frames, with the mean of their two rows."""
    x, sums = work.third, work.sums
    for output in range(0, FEATURES, SIDE):
        tile = output // SIDE * DEEP_ALL * TILE
        _two_tiles(x, 0, FEATURES, THIRD_STEP, DEEP_ALL, x, 0, 0, 0, 0, weights, tile, sums)
        for frame in range(frames):
            for column in range(SIDE):
                total = np.float32(0)
                for row in range(FOURTH):
                    value = sums[(row * SIDE + frame) * SIDE + column] + bias[output + column]
                    total += max(value, np.float32(0))
                features[(start + frame) * FEATURES + output + column] = total / np.float32(FOURTH)


@entry
def convolve(values: Floats, count: int, layers: Layers, work: Workspace, features: Floats) -> None:
    """Take standardised frames (count, 80, 3) through all convolutions; `features` receives (count, 160)."""
    _begin(work.shapes)
    for start in range(0, count, SIDE):
        frames = min(SIDE, count - start)
        for frame in range(frames):
            for at in range(0, READINGS, SIDE):
                _round(values, (start + frame) * READINGS + at, work.frames, frame * FRAME_STEP + at)
            _convolve_first(work, frame, layers.weights_1, layers.bias_1)
            _convolve_second(work, frame, layers.weights_2, layers.bias_2)
        _convolve_third(work, layers.weights_3, layers.bias_3)
        _convolve_fourth(work, frames, layers.weights_4, layers.bias_4, features, start)
    _end()


ENTRIES: Sequence[Callable[..., None]] = (convolve,)
