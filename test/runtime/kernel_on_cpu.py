# SPDX-License-Identifier: Apache-2.0
"""
CUDA kernels, compiled with g++ and run thread after thread.

Kernels with barriers run as coroutines, one for each thread of a block, that give way where they
wait; so what a barrier too few leaves open shows in the results. Ballots are of whole warps.
"""

import ctypes
import functools
from pathlib import Path
import shutil
import subprocess
import tempfile

#: what stands before a CUDA source so that g++ takes it.
HEAD = r'''
#include <algorithm>
#include <cmath>
#include <utility>
#define __global__
#define __device__
#define __launch_bounds__(...)
using std::max;
using std::min;
struct Index { unsigned x, y, z; };
static Index blockIdx, threadIdx, blockDim, gridDim;
'''
#: what kernels with barriers need; `wait` returns when all of a group have come.
BARRIERS = r'''
#include <ucontext.h>
#include <vector>
#define __shared__ static
struct Group { unsigned members, arrived, generation, votes, result; };
struct Thread { ucontext_t context; Index index; Group *warp; bool done; };
static std::vector<Thread> threads;
static std::vector<Group> warps;
static Group whole;
static Thread *now;
static ucontext_t scheduler;
static bool moved;

static void wait(Group &group)
{
    const unsigned generation = group.generation;
    if (++group.arrived == group.members) {
        group.arrived = 0, group.result = group.votes, group.votes = 0;
        ++group.generation;
        moved = true;
        return;
    }
    while (group.generation == generation)
        swapcontext(&now->context, &scheduler);
}
[[maybe_unused]] static void __syncthreads() { wait(whole); }
[[maybe_unused]] static int __popc(unsigned word) { return __builtin_popcount(word); }
[[maybe_unused]] static unsigned __ballot_sync(unsigned mask, bool vote)
{
    if (mask != 0xffffffff)
        throw "ballots of parts of a warp are not known here";
    now->warp->votes |= unsigned(vote) << (now - threads.data()) % 32;
    wait(*now->warp);
    return now->warp->result;
}
'''
#: runs the threads of a block: one to its end and then the next.
IN_TURNS = r'''
template <class Work> static bool run_block(Work work)
{
    for (threadIdx.z = 0; threadIdx.z < blockDim.z; ++threadIdx.z)
    for (threadIdx.y = 0; threadIdx.y < blockDim.y; ++threadIdx.y)
    for (threadIdx.x = 0; threadIdx.x < blockDim.x; ++threadIdx.x)
        work();
    return true;
}
'''
#: the same with barriers; false when all threads that are left wait in vain.
AS_COROUTINES = r'''
template <class Work> static bool run_block(Work work)
{
    static const unsigned stack_size = 1 << 14;
    static std::vector<char> stacks;
    static Work *current;
    const unsigned count = blockDim.x * blockDim.y * blockDim.z;
    current = &work;
    stacks.resize(std::size_t(count) * stack_size);
    threads.resize(count);
    warps.assign((count + 31) / 32, Group{});
    whole = {count, 0, 0, 0, 0};
    for (unsigned i = 0; i < count; ++i) {
        Thread &thread = threads[i];
        thread.index = {i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y};
        thread.warp = &warps[i / 32], thread.done = false;
        ++thread.warp->members;
        getcontext(&thread.context);
        thread.context.uc_stack.ss_sp = &stacks[std::size_t(i) * stack_size];
        thread.context.uc_stack.ss_size = stack_size;
        thread.context.uc_link = &scheduler;
        makecontext(&thread.context, +[] { (*current)(); now->done = true; moved = true; }, 0);
    }
    for (unsigned left = count; left;) {
        moved = false;
        for (Thread &thread : threads) {
            if (thread.done)
                continue;
            now = &thread, threadIdx = thread.index;
            swapcontext(&scheduler, &thread.context);
            left -= thread.done;
        }
        if (!moved)
            return false;
    }
    return true;
}
'''
#: runs a grid of kernel NAME.
TAIL = r'''
template <class... T, std::size_t... I>
static bool run(void (*kernel)(T...), void **arguments, std::index_sequence<I...>)
{
    for (blockIdx.z = 0; blockIdx.z < gridDim.z; ++blockIdx.z)
    for (blockIdx.y = 0; blockIdx.y < gridDim.y; ++blockIdx.y)
    for (blockIdx.x = 0; blockIdx.x < gridDim.x; ++blockIdx.x)
        if (!run_block([&] { kernel(*static_cast<std::remove_const_t<T> *>(arguments[I])...); }))
            return false;
    return true;
}

template <class... T> static bool run(void (*kernel)(T...), void **arguments)
{
    return run(kernel, arguments, std::index_sequence_for<T...>());
}

extern "C" bool run_grid(const unsigned *grid, const unsigned *block, void **arguments)
{
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block[0], block[1], block[2]};
    return run(NAME, arguments);
}
'''
COMPILER = shutil.which('g++')


@functools.lru_cache(maxsize=16)
def compiled(source, name):
    """Return a function (grid, block, values, ctypes types) that runs kernel `name` of a source."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'kernel.cpp'
        path.write_text(_program(source, name))
        library = path.with_suffix('.so')
        subprocess.run(
            [COMPILER, '-std=c++17', '-O2', '-Wall', '-Werror', '-Wno-unknown-pragmas', '-shared',
             '-fPIC', '-o', str(library), str(path)], check=True, capture_output=True, text=True)
        run_grid = ctypes.CDLL(str(library)).run_grid
        run_grid.restype = ctypes.c_bool

    def run(grid, block, values, types):
        boxes = [kind(value) for value, kind in zip(values, types)]
        pointers = (ctypes.c_void_p * len(boxes))(
            *(ctypes.cast(ctypes.pointer(box), ctypes.c_void_p) for box in boxes))
        assert run_grid((ctypes.c_uint * 3)(*grid), (ctypes.c_uint * 3)(*block), pointers), (
            f'threads of {name} wait for others that do not come')
    return run


def _program(source, name):
    parts = (HEAD, BARRIERS, source, AS_COROUTINES) if '__syncthreads' in source else (
        HEAD, source, IN_TURNS)
    return '\n'.join((*parts, TAIL.replace('NAME', name)))
