# SPDX-License-Identifier: Apache-2.0
"""
The inner loop of binary layers as vectors: xor, popcount and what follows (bidrn sheet, 7).

Eight outputs go side by side, each a 64-bit lane of a vector, and `PIXELS` pixels share each vector
of weights while it is in a register. Vectors are written as such, for compilers do not find them in
loops; what the processor has for them is LLVM's choice: VPOPCNTDQ, tables with AVX2, CNT of NEON.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

#: outputs of one vector; their signs are one octet.
LANES = 8
#: pixels that share weights: as many sums as the processor has registers for.
PIXELS = 8 if binding.get_host_cpu_features().get('avx512f') else 4
#: rows of a bend, see `packed_layers.Bend`.
THRESHOLD, ABOVE, ABOVE_OFFSET, BELOW, BELOW_OFFSET = range(5)

_WORD, _NUMBER, _SMALL = ir.IntType(64), ir.FloatType(), ir.IntType(32)
_WORDS, _NUMBERS = (ir.VectorType(kind, LANES) for kind in (_WORD, _NUMBER))
_ZEROS = ir.Constant(_NUMBERS, [0.0] * LANES)


class _Code(NamedTuple):
    """Where instructions go, and what they read: pointers to the arrays' data, numbers."""

    builder: ir.IRBuilder
    args: dict[str, ir.Value]

    def at(self, name: str, place: ir.Value, kind: ir.Type) -> ir.Value:
        """Point to a `kind` that begins at element `place` of an array."""
        element = self.builder.gep(self.args[name], [place])
        return self.builder.bitcast(element, kind.as_pointer())

    def numbers(self, name: str, place: ir.Value) -> ir.Value:
        """Eight neighbouring numbers."""
        return self.builder.load(self.at(name, place, _NUMBERS), align=4)

    def sum(self, *terms: ir.Value) -> ir.Value:
        """Add up integers."""
        found = terms[0]
        for term in terms[1:]:
            found = self.builder.add(found, term)
        return found

    def times(self, value: ir.Value, factor: int) -> ir.Value:
        """Multiply an integer."""
        return self.builder.mul(value, _word(factor))


def _word(value: int) -> ir.Value:
    return ir.Constant(_WORD, value)


def _spread(builder: ir.IRBuilder, word: ir.Value) -> ir.Value:
    """Put one word into all lanes."""
    empty = ir.Constant(_WORDS, ir.Undefined)
    single = builder.insert_element(empty, word, _SMALL(0))
    mask = ir.Constant(ir.VectorType(_SMALL, LANES), [0] * LANES)
    return builder.shuffle_vector(single, empty, mask)


def _line(builder: ir.IRBuilder, slope: ir.Value, value: ir.Value, offset: ir.Value) -> ir.Value:
    """Compute slope * value + offset in one instruction, rounded once."""
    fused = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(_NUMBERS, [_NUMBERS] * 3), f'llvm.fma.v{LANES}f32')
    return builder.call(fused, [slope, value, offset])


def _differences(code: _Code, branch: ir.Value) -> list[ir.Value]:
    """Bits, as numbers, in which what each pixel sees differs from the weights of 8 outputs."""
    builder, places = code.builder, code.args['places']
    sums = [cgutils.alloca_once_value(builder, ir.Constant(_WORDS, [0] * LANES))
            for _ in range(PIXELS)]
    count = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(_WORDS, [_WORDS]), f'llvm.ctpop.v{LANES}i64')
    row = builder.add(
        builder.mul(code.args['group'], code.args['branches']), branch)
    first, weight = builder.mul(branch, places), builder.mul(row, places)
    with cgutils.for_range(builder, places) as loop:
        some = builder.load(code.at('weights', code.times(
            builder.add(weight, loop.index), LANES), _WORDS), align=8)
        begin = code.times(builder.add(first, loop.index), PIXELS)
        for pixel, place in enumerate(sums):
            word = builder.load(code.at('seen', builder.add(begin, _word(pixel)), _WORD))
            ones = builder.call(count, [builder.xor(some, _spread(builder, word))])
            builder.store(builder.add(builder.load(place), ones), place)
    small = ir.VectorType(_SMALL, LANES)
    return [builder.sitofp(builder.trunc(builder.load(place), small), _NUMBERS) for place in sums]


def _bent(code: _Code, total: ir.Value, first: ir.Value) -> ir.Value:
    """One of two lines of 8 sums; rows of their bend follow one another from `first` on."""
    builder = code.builder
    rows = [code.numbers('bend', builder.add(first, _word(LANES * row))) for row in range(5)]
    high = _line(builder, rows[ABOVE], total, rows[ABOVE_OFFSET])
    low = _line(builder, rows[BELOW], total, rows[BELOW_OFFSET])
    return builder.select(builder.fcmp_ordered('>', total, rows[THRESHOLD]), high, low)


def _add_branch(code: _Code, totals: list[ir.Value], branch: ir.Value) -> None:
    """Add what 8 outputs of one branch come to, for each pixel."""
    builder, args = code.builder, code.args
    row = builder.add(builder.mul(args['group'], args['branches']), branch)
    line = code.times(row, 5 * LANES)
    full = code.times(builder.add(args['full_row'], branch), PIXELS * LANES)
    twice = ir.Constant(_NUMBERS, [-2.0] * LANES)
    for pixel, (different, place) in enumerate(zip(_differences(code, branch), totals)):
        most = code.numbers('full', builder.add(full, _word(LANES * pixel)))
        total = _line(builder, twice, different, most)
        builder.store(builder.fadd(builder.load(place), _bent(code, total, line)), place)


def _row(code: _Code, name: str, pixel: int) -> ir.Value:
    return code.builder.load(code.at(name, _word(pixel), _WORD))


def _clipped(builder: ir.IRBuilder, values: ir.Value) -> ir.Value:
    one, less = (ir.Constant(_NUMBERS, [value] * LANES) for value in (1.0, -1.0))
    values = builder.select(builder.fcmp_ordered('>', values, less), values, less)
    return builder.select(builder.fcmp_ordered('<', values, one), values, one)


def _add_kept(code: _Code, totals: list[ir.Value], number: ir.Value) -> None:
    """Add one of the values that 8 outputs of each pixel keep, clipped."""
    builder, args = code.builder, code.args
    offset = builder.load(code.at('kept_offsets', number, _WORD))
    offset = builder.add(
        offset, builder.urem(code.times(args['group'], LANES), args['width']))
    for pixel, place in enumerate(totals):
        values = code.numbers('values', builder.add(_row(code, 'kept_rows', pixel), offset))
        builder.store(builder.fadd(builder.load(place), _clipped(builder, values)), place)


def _shortcuts(code: _Code, totals: list[ir.Value]) -> None:
    """What 8 outputs of each pixel keep, and what goes around their block."""
    builder, args = code.builder, code.args
    with cgutils.for_range(builder, args['kept']) as loop:
        _add_kept(code, totals, loop.index)
    first = code.times(args['group'], LANES)
    keep = code.numbers('keep', first)
    for pixel, place in enumerate(totals):
        around = code.numbers('around', builder.add(_row(code, 'around_rows', pixel), first))
        builder.store(_line(builder, keep, builder.load(place), around), place)


def _put(code: _Code, pixel: int, found: ir.Value) -> None:
    """Write 8 outputs of a pixel and the octet of their signs; zeros of either sign are +1."""
    builder, group = code.builder, code.args['group']
    place = builder.add(_row(code, 'out_rows', pixel), code.times(group, LANES))
    builder.store(found, code.at('out', place, _NUMBERS), align=4)
    signs = builder.bitcast(builder.fcmp_ordered('>=', found, _ZEROS), ir.IntType(LANES))
    place = builder.add(_row(code, 'octet_rows', pixel), group)
    builder.store(signs, builder.gep(code.args['octets'], [place]))


_ARRAYS = ('seen', 'weights', 'full', 'bend', 'keep', 'values', 'around', 'out', 'octets',
           'kept_offsets', 'kept_rows', 'around_rows', 'out_rows', 'octet_rows')
_COUNTS = ('group', 'branches', 'places', 'kept', 'width', 'full_row')


def _generate(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> ir.Value:
    args = {name: context.make_array(kind)(context, builder, value).data
            for name, kind, value in zip(_ARRAYS, signature.args, values)}
    code = _Code(builder, {**args, **dict(zip(_COUNTS, values[len(_ARRAYS):]))})
    totals = [cgutils.alloca_once_value(builder, _ZEROS) for _ in range(PIXELS)]
    _shortcuts(code, totals)
    with cgutils.for_range(builder, code.args['branches']) as loop:
        _add_branch(code, totals, loop.index)
    for pixel, place in enumerate(totals):
        _put(code, pixel, builder.load(place))
    return context.get_dummy_value()


@intrinsic
def eight_outputs(
        _: Any, seen: Any, weights: Any, full: Any, bend: Any, keep: Any, values: Any, around: Any,
        out: Any, octets: Any, kept_offsets: Any, kept_rows: Any, around_rows: Any, out_rows: Any,
        octet_rows: Any, group: Any, branches: Any, places: Any, kept: Any, width: Any,
        full_row: Any) -> tuple[Any, Callable]:
    """
    Compute 8 outputs of PIXELS pixels; all arrays are contiguous, with `out` and `octets` written.

    seen       (branches, places, PIXELS) uint64, words that each pixel sees
    weights    (groups, branches, places, 8) uint64;  group: which eight
    full       (..., PIXELS, 8) float32, sums if nothing differed, a row per branch from full_row on
    bend       (groups, branches, 5, 8) float32, see `packed_layers.Bend`
    keep       (O,) float32: of each output, times the sum of the `kept` clipped `values` from
               kept_rows[pixel] + kept_offsets[i] on, which repeat after `width` outputs
    around     float32, added from element around_rows[pixel] on
    out        float32, from element out_rows[pixel] on;  octets: uint8, from octet_rows[pixel] on
    """
    arrays = (seen, weights, full, bend, keep, values, around, out, octets, kept_offsets, kept_rows,
              around_rows, out_rows, octet_rows)
    return types.void(*arrays, *[types.int64] * len(_COUNTS)), _generate
