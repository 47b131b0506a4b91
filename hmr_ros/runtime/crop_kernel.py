# SPDX-License-Identifier: Apache-2.0
"""
Cuts the crops of all people of an image on the GPU, straight into the batch of a network.

In whole numbers, as OpenCV's warpAffine (INTER_LINEAR) and resize (INTER_AREA) do it: the same
batch bit by bit as that of the processor, compared with OpenCV 4.5.5, 4.8.1, 4.10, 4.11, 4.12 and
4.14 on x86. Where OpenCV samples in another way, a hardware library of an ARM board say, edges
differ.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Protocol

import numpy as np

from hmr_ros.runtime.cuda import CudaSession
from hmr_ros.runtime.engine import EngineError
from hmr_ros.runtime.kernel_compiler import compile_kernel

SOURCE = Path(__file__).with_name('crop_kernel.cu')
_BLOCK = 16
_STEPS = 32
#: arrays begin at multiples of this, which suits every dtype.
_ALIGNMENT = 256


class CropPlan(Protocol):
    """
    N crops of one image, each `size` pixels wide and high.

    size       pixels of a side
    channels   the channels of the image that are red, green and blue
    finer      int32 `(N,)`: a crop's pixel is the mean of finer x finer samples
    positions  int32 `(N, 2, L)`: where the columns (row 0) and rows (row 1) of samples lie in the
               image, in 1/32 pixel, rising; L at least size * finer
    levels     float32 `(3, 256)`: what a grey level is in the batch, for red, green and blue
    """

    size: int
    channels: tuple[int, int, int]
    finer: np.ndarray
    positions: np.ndarray
    levels: np.ndarray


class _Black:
    """The plan of one crop that shows the first pixel of a gray image and its surroundings."""

    channels, levels = (0, 0, 0), np.zeros((3, 256), np.float32)
    finer = np.ones(1, np.int32)

    def __init__(self, size: int) -> None:
        self.size = size
        self.positions = np.tile(_STEPS * np.arange(size, dtype=np.int32), (1, 2, 1))


class CropKernel:
    """The kernel and its memory, which belong to a session and are freed with it."""

    def __init__(self, session: CudaSession, compute_capability: str) -> None:
        """Raises EngineError when the kernel cannot be compiled or loaded."""
        self._session = session
        self._kernel = session.load_kernel(compile_kernel(SOURCE, compute_capability), 'cut_crops')
        self._device, self._pinned = 0, np.empty(0, np.uint8)
        self._launch: tuple[tuple[int, int, int], list[tuple[int, type]]] = ((0, 0, 0), [])

    def warm_up(self, size: int, batch: int) -> None:
        """Cut one crop of a black pixel into `batch`: CUDA loads a kernel when it first runs."""
        self.cut(np.zeros((1, 1), np.uint8), _Black(size), batch)
        self._session.wait()

    def cut(self, image: np.ndarray, plan: CropPlan, batch: int) -> None:
        """
        Enqueue what fills `batch`, the address of float32 (N, 3, size, size) on the GPU.

        image  uint8 `(H, W[, channels])`

        Wait for the session before the next call, which writes to the same memory.
        """
        _check_image(image, plan)
        first, last = _shown(plan.positions, image.shape[1], image.shape[0])
        parts = [image[top:bottom, left:right] for (left, top), (right, bottom) in zip(first, last)]
        windows = np.broadcast_to(_table(parts), (len(plan.finer), 3))
        addresses = self._upload([
            windows, plan.finer, plan.positions - _STEPS * first[:, :, None], plan.levels], parts)
        channels = image.shape[2] if image.ndim == 3 else 1
        self._launch = _launch_of(plan, channels, addresses, batch)
        self.repeat()

    def repeat(self) -> None:
        """Enqueue the kernel of the last `cut` once more, on what is there already."""
        grid, arguments = self._launch
        self._session.launch_kernel(self._kernel, grid, (_BLOCK, _BLOCK, 1), arguments)

    def _upload(self, arrays: list[np.ndarray], parts: list[np.ndarray]) -> list[int]:
        """Enqueue one copy of `arrays` and then all `parts`; return where they will be."""
        ends = np.cumsum([-(-array.nbytes // _ALIGNMENT) * _ALIGNMENT for array in arrays])
        starts = [0, *(int(end) for end in ends)]
        size = starts[-1] + sum(part.nbytes for part in parts)
        self._make_room(size)
        for start, array in zip(starts, arrays):
            _put(self._pinned[start:start + array.nbytes], array)
        end = starts[-1]
        for part in parts:
            _put(self._pinned[end:end + part.nbytes], part)
            end += part.nbytes
        self._session.upload(self._device, self._pinned[:size])
        return [self._device + start for start in starts]

    def _make_room(self, size: int) -> None:
        if size <= len(self._pinned):
            return
        if len(self._pinned):
            self._session.free_device(self._device)
            self._session.free_pinned(self._pinned)
            self._pinned = np.empty(0, np.uint8)
        # With a quarter to spare, so that people who come nearer do not ask for more each time.
        self._device = self._session.device_memory(size + size // 4)
        self._pinned = self._session.pinned_memory(size + size // 4)


def _put(room: np.ndarray, array: np.ndarray) -> None:
    np.copyto(room.view(array.dtype).reshape(array.shape), array)


def _launch_of(
        plan: CropPlan, channels: int, addresses: list[int],
        batch: int) -> tuple[tuple[int, int, int], list[tuple[int, type]]]:
    """Return the grid and the arguments, as crop_kernel.cu takes them."""
    windows, finer, positions, levels, pixels = addresses
    pointer, whole = ctypes.c_void_p, ctypes.c_int
    tiles = -(-plan.size // _BLOCK)
    return (tiles, tiles, len(plan.finer)), [
        (pixels, pointer), (windows, pointer), (channels, whole),
        *((channel, whole) for channel in plan.channels), (finer, pointer),
        (positions, pointer), (plan.positions.shape[2], whole), (levels, pointer),
        (plan.size, whole), (batch, pointer)]


def _check_image(image: np.ndarray, plan: CropPlan) -> None:
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or max(plan.channels) >= (
            image.shape[2] if image.ndim == 3 else 1):
        raise EngineError(
            f'image of crops is {image.dtype} {list(image.shape)}, but its channels '
            f'{plan.channels} are wanted; expected uint8 (H, W) or (H, W, channels)')


def _shown(positions: np.ndarray, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """
    Return the first corners and the ends, int32 x, y, of the windows that have to travel.

    (N, 2): what each crop shows; or (1, 2): what all of them show, where that is less.
    """
    ends = np.int32([width, height])
    first = np.clip(positions[:, :, 0] // _STEPS, 0, ends)
    # One more for the neighbour that a sample takes in, and one for the end of a slice.
    last = np.clip(positions[:, :, -1] // _STEPS + 2, first, ends)
    low, high = first.min(axis=0), last.max(axis=0)
    if np.prod(last - first, axis=1).sum() > np.prod(high - low):
        return low[None], high[None]
    return first, last


def _table(parts: list[np.ndarray]) -> np.ndarray:
    """Return int32 (N, 3): where each part begins when they follow each other, height, width."""
    ends = np.cumsum([part.nbytes for part in parts])
    return np.int32([
        (end - part.nbytes, *part.shape[:2]) for end, part in zip(ends, parts)])
