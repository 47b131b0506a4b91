# SPDX-License-Identifier: Apache-2.0
"""How long the crops of one frame take, on the processor and on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from hmr_ros.perception.crop_plan import plan_crops
from hmr_ros.perception.crops import CropTransform, cut_crops
from hmr_ros.runtime import EngineError
from hmr_ros.runtime.benchmark import times_ms
from hmr_ros.runtime.crop_kernel import CropKernel
from hmr_ros.runtime.cuda import CudaSession, find_cuda

WIDTH, HEIGHT = 1920, 1080
_ORDER, _LEVELS = 'bgr', ((0.406, 0.457, 0.480), (0.225, 0.224, 0.229))


def benchmark_crops(people: int, size: int, seconds: float) -> dict[str, Any]:
    """
    Time the crops of `size` pixels of `people` in a noisy frame; `seconds` for each row.

    Returns `gpu`, its name or why there is none, and rows of where, people, size, p50_ms, p95_ms.
    On a GPU they are all that it takes from image to batch, and the kernel alone.
    """
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    transforms = [
        CropTransform(*rng.uniform((0, 0), (WIDTH, HEIGHT)), rng.uniform(80, 500), size)
        for _ in range(people)]
    works: dict[str, Callable[[], object]] = {
        'processor': lambda: cut_crops(image, _ORDER, transforms, size, *_LEVELS)}
    session = None
    try:
        cuda = find_cuda()
        device = cuda.device()
        session = CudaSession(cuda)
        kernel = CropKernel(session, device.compute_capability)
        works.update(_works_of(kernel, session, image, transforms, size))
        gpu = device.name
    except EngineError as error:
        gpu = f'not measured: {error}'
    try:
        return {'gpu': gpu, 'rows': _rows(works, people, size, seconds)}
    finally:
        if session is not None:
            session.close()


def _works_of(
        kernel: CropKernel, session: CudaSession, image: np.ndarray,
        transforms: list[CropTransform], size: int) -> dict[str, Callable[[], object]]:
    batch = session.device_memory(4 * 3 * size * size * len(transforms))

    def whole() -> None:
        kernel.cut(image, plan_crops(_ORDER, transforms, size, *_LEVELS), batch)
        session.wait()

    def again() -> None:
        kernel.repeat()
        session.wait()
    whole()
    return {'gpu': whole, 'gpu, kernel alone': again}


def _rows(
        works: dict[str, Callable[[], object]], people: int, size: int,
        seconds: float) -> list[dict[str, Any]]:
    # Tables and memory are made in the first round, which does not count.
    times = times_ms(list(works.values()), seconds)[:, 1:]
    return [
        {'where': name, 'people': people, 'size': size,
         'p50_ms': float(np.percentile(row, 50)), 'p95_ms': float(np.percentile(row, 95))}
        for name, row in zip(works, times)]
