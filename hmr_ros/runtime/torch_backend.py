# SPDX-License-Identifier: Apache-2.0
"""The torch backend: whether torch and a GPU are there, and an engine of what is there."""

from __future__ import annotations

import ctypes
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TYPE_CHECKING

from hmr_ros.runtime.checks import choose_precision, read_network
from hmr_ros.runtime.engine import EngineError
from hmr_ros.runtime.half_precision import degradation, typed_network
from hmr_ros.runtime.manifest import ManifestEntry

if TYPE_CHECKING:
    from hmr_ros.runtime.torch_engine import TorchEngine

_DRIVER = 'libcuda.so.1'


def find_torch() -> Any:
    """Return the module torch. Raises EngineError when it is missing."""
    try:
        import torch
    except (ImportError, OSError) as error:
        raise EngineError(
            f'torch cannot be imported ({error}); `pip install torch onnx` (on a Jetson: the '
            'wheel of your JetPack), or use backend onnxruntime') from error
    return torch


def find_torch_with_gpu() -> Any:
    """
    Return the module torch if it sees a GPU; it is imported only where there is one.

    Raises EngineError that says what is missing.
    """
    if find_spec('torch') is None:
        raise EngineError('torch is not installed')
    if not count_gpus():
        raise EngineError(f'the driver ({_DRIVER}) shows no NVIDIA GPU')
    torch = find_torch()
    if not torch.cuda.is_available():
        raise EngineError(
            f'torch {torch.__version__} cannot use the GPU; install a torch of your CUDA')
    return torch


def count_gpus() -> int:
    """Ask NVIDIA's driver how many GPUs this process may use, which takes torch a second."""
    try:
        driver = ctypes.CDLL(_DRIVER)
    except OSError:
        return 0
    count = ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return 0
    return count.value


def open_engine(
        torch: Any, path: Path, entry: ManifestEntry | None, precision: str, threads: int,
        reason: str) -> TorchEngine:
    """
    Load a network onto the first GPU that `torch` sees, else onto the CPU.

    precision, threads, reason   as for `load_engine`

    Raises EngineError when the file is damaged or changed, or cannot be run this way.
    """
    on_gpu = torch.cuda.is_available()
    device = torch.device('cuda', 0) if on_gpu else torch.device('cpu')
    content, sha256 = read_network(path, entry)
    precision = _choose_precision(precision, device.type, content, path)
    reason += degradation(content, entry, precision)
    if precision == 'fp16':
        content = typed_network(content, precision, path)
    from hmr_ros.runtime.torch_engine import TorchEngine
    from hmr_ros.runtime.torch_network import TorchNetwork
    from hmr_ros.runtime.torch_runners import EagerRunner, GraphRunner
    place = torch.cuda.get_device_name(device) if on_gpu else (
        f'the CPU, as torch {torch.__version__} sees no CUDA GPU')
    try:
        network = TorchNetwork(content, path, device)
        runner = GraphRunner(network) if on_gpu else EagerRunner(network, threads)
    except EngineError:
        raise
    except (AssertionError, RuntimeError) as error:
        raise EngineError(f'torch {torch.__version__} cannot use {place}: {error}') from error
    return TorchEngine(network, runner, sha256, precision, entry, f'{reason}; on {place}')


def _choose_precision(precision: str, device: str, content: bytes, path: Path) -> str:
    """Return fp32 or fp16; 'auto' is fp32: exact, and what fp16 gains was never measured."""
    precision = choose_precision(precision, 'fp32', content, path)
    if precision == 'int8':
        raise EngineError(
            f'the torch backend has no int8, and {path} is quantized; use the file that it was '
            'made from, or backend onnxruntime or tensorrt')
    if precision == 'fp16' and device == 'cpu':
        raise EngineError(
            f'precision is fp16 for {path}, which torch computes many times slower than fp32 on a '
            'CPU, and it sees no CUDA GPU; use precision fp32')
    return precision
