# SPDX-License-Identifier: Apache-2.0
"""How fast this processor can count bits: what no binary layer can be faster than."""

from __future__ import annotations

from collections.abc import Callable
import time
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from hmr_ros.runtime.packed_bits import WORD
from hmr_ros.runtime.packed_vectors import LANES, PIXELS

_ROUNDS = 200_000
_RUNS = 20
_WORDS = ir.VectorType(ir.IntType(WORD), LANES)


def _generate(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
    """Sums of ones in words that differ from round to round; nothing is loaded or stored."""
    count = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(_WORDS, [_WORDS]), f'llvm.ctpop.v{LANES}i64')
    words = [ir.Constant(_WORDS, [7919 * (LANES * pixel + lane) for lane in range(LANES)])
             for pixel in range(PIXELS)]
    sums = [cgutils.alloca_once_value(builder, ir.Constant(_WORDS, [0] * LANES)) for _ in words]
    lane = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    with cgutils.for_range(builder, args[0]) as loop:
        empty = ir.Constant(_WORDS, ir.Undefined)
        single = builder.insert_element(empty, loop.index, ir.IntType(32)(0))
        round_ = builder.shuffle_vector(single, empty, lane)
        for word, place in zip(words, sums):
            ones = builder.call(count, [builder.xor(word, round_)])
            builder.store(builder.add(builder.load(place), ones), place)
    total = builder.load(sums[0])
    for place in sums[1:]:
        total = builder.add(total, builder.load(place))
    found = builder.extract_element(total, ir.IntType(32)(0))
    for number in range(1, LANES):
        found = builder.add(found, builder.extract_element(total, ir.IntType(32)(number)))
    return found


@intrinsic
def _counted(_: Any, rounds: Any) -> tuple[Any, Callable]:
    return types.int64(types.int64), _generate


@njit(nogil=True, cache=True)
def count_ones(rounds: int) -> int:
    """Ones of LANES * PIXELS words, each xored with 0 to `rounds`: xor, popcount, sum."""
    return _counted(rounds)


def popcount_limit() -> float:
    """Products of two bits in a second, best of several runs, in 1e9; one thread."""
    count_ones(1)
    best = float('inf')
    for _ in range(_RUNS):
        begin = time.perf_counter()
        count_ones(_ROUNDS)
        best = min(best, time.perf_counter() - begin)
    return _ROUNDS * LANES * PIXELS * WORD / best / 1e9
