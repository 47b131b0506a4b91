# SPDX-License-Identifier: Apache-2.0
"""CUDA kernels without barriers or shared memory, compiled with g++ and run thread after thread."""

import ctypes
import functools
from pathlib import Path
import shutil
import subprocess
import tempfile

#: what stands before a CUDA source so that g++ takes it, and what runs a grid of any kernel in it.
PROGRAM = '''
#include <utility>
#define __global__
#define __device__
struct Index {{ unsigned x, y, z; }};
static Index blockIdx, threadIdx, blockDim, gridDim;

{source}

template <class... T, std::size_t... I>
static void call(void (*kernel)(T...), void **arguments, std::index_sequence<I...>)
{{
    kernel(*static_cast<std::remove_const_t<T> *>(arguments[I])...);
}}

template <class... T>
static void run(void (*kernel)(T...), void **arguments)
{{
    for (blockIdx.z = 0; blockIdx.z < gridDim.z; ++blockIdx.z)
    for (blockIdx.y = 0; blockIdx.y < gridDim.y; ++blockIdx.y)
    for (blockIdx.x = 0; blockIdx.x < gridDim.x; ++blockIdx.x)
    for (threadIdx.z = 0; threadIdx.z < blockDim.z; ++threadIdx.z)
    for (threadIdx.y = 0; threadIdx.y < blockDim.y; ++threadIdx.y)
    for (threadIdx.x = 0; threadIdx.x < blockDim.x; ++threadIdx.x)
        call(kernel, arguments, std::index_sequence_for<T...>());
}}

extern "C" void run_grid(const unsigned *grid, const unsigned *block, void **arguments)
{{
    gridDim = {{grid[0], grid[1], grid[2]}};
    blockDim = {{block[0], block[1], block[2]}};
    run({name}, arguments);
}}
'''
COMPILER = shutil.which('g++')


@functools.lru_cache(maxsize=8)
def compiled(source, name):
    """Return a function (grid, block, values, ctypes types) that runs kernel `name` of a source."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'kernel.cpp'
        path.write_text(PROGRAM.format(source=source, name=name))
        library = path.with_suffix('.so')
        subprocess.run(
            [COMPILER, '-std=c++17', '-O2', '-Wall', '-Werror', '-shared', '-fPIC', '-o',
             str(library), str(path)], check=True, capture_output=True, text=True)
        run_grid = ctypes.CDLL(str(library)).run_grid

    def run(grid, block, values, types):
        boxes = [kind(value) for value, kind in zip(values, types)]
        pointers = (ctypes.c_void_p * len(boxes))(
            *(ctypes.cast(ctypes.pointer(box), ctypes.c_void_p) for box in boxes))
        run_grid((ctypes.c_uint * 3)(*grid), (ctypes.c_uint * 3)(*block), pointers)
    return run
