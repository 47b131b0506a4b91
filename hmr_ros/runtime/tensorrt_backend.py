# SPDX-License-Identifier: Apache-2.0
"""
The TensorRT backend: finds TensorRT, CUDA and a GPU, and joins cache, builder and runtime.

This is the one place that imports TensorRT.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
import hashlib
from pathlib import Path
import time
from typing import Any

from hmr_ros.runtime.build_options import BuildOptions
from hmr_ros.runtime.checks import choose_precision, read_network
from hmr_ros.runtime.cuda import Cuda, Device, find_cuda
from hmr_ros.runtime.engine import EngineError
from hmr_ros.runtime.engine_cache import (
    EngineCache, EngineKey, EngineRecord, Environment, StoredEngine)
from hmr_ros.runtime.half_precision import degradation, typed_network
from hmr_ros.runtime.manifest import ManifestEntry, most_of
from hmr_ros.runtime.tensorrt_build import build_plan, BuildRequest, BuiltEngine
from hmr_ros.runtime.tensorrt_engine import TensorRtEngine

_OLDEST = (10, 3)


@dataclass(frozen=True)
class TensorRtStack:
    """TensorRT's module, CUDA, and the GPU that both see."""

    trt: Any
    cuda: Cuda
    device: Device

    @property
    def environment(self) -> Environment:
        """Return what engines of this stack are tied to."""
        return Environment(
            self.device.name, self.device.compute_capability, self.trt.__version__)


@dataclass(frozen=True)
class Network:
    """An ONNX file that was read and checked, with its manifest entry or None."""

    path: Path
    entry: ManifestEntry | None
    content: bytes
    sha256: str

    @classmethod
    def read(cls, path: Path, entry: ManifestEntry | None) -> Network:
        """Raises EngineError when the file is missing, damaged or changed."""
        return cls(path, entry, *read_network(path, entry))

    def limited(self, options: BuildOptions) -> BuildOptions:
        """Return the options for as many items as the network is ever given."""
        return replace(options, max_batch=most_of(self.entry, options.max_batch))

    def key(self, precision: str, options: BuildOptions, environment: Environment) -> EngineKey:
        """Return what is wanted of an engine. Raises EngineError for a wrong precision."""
        return EngineKey(
            self.entry.name if self.entry else self.path.stem,
            self.entry.name if self.entry else str(self.path), self.sha256,
            choose_precision(precision, 'fp16', self.content, self.path), options.max_batch,
            options.compatibility, environment)


def find_stack() -> TensorRtStack:
    """Return what this environment has. Raises EngineError that says which part is missing."""
    try:
        import tensorrt
    except (ImportError, OSError) as error:
        raise EngineError(
            f'tensorrt cannot be imported ({error}); on a Jetson it comes with JetPack '
            '(apt install python3-libnvinfer), elsewhere `pip install tensorrt`') from error
    version = tuple(int(part) for part in tensorrt.__version__.split('.')[:2])
    if version < _OLDEST:
        raise EngineError(
            f'TensorRT is {tensorrt.__version__}; expected '
            f'{".".join(map(str, _OLDEST))} or newer, as in JetPack 6.1')
    cuda = find_cuda()
    return TensorRtStack(tensorrt, cuda, cuda.device())


def open_engine(
        stack: TensorRtStack, network: Network, precision: str, options: BuildOptions,
        reason: str) -> TensorRtEngine:
    """
    Load the engine of a network from the cache, built first when it is not there and may be.

    Raises EngineError when there is none to be had; the message names the command that builds it.
    """
    options = network.limited(options)
    key = network.key(precision, options, stack.environment)
    try:
        stored = EngineCache().find(key)
    except EngineError as error:
        if not options.allow_engine_build:
            raise
        options.watch.announce(f'{error}. Building it now, which takes minutes')
        stored = build_engine(stack, network, precision, options)
    return TensorRtEngine(
        stack.trt, stack.cuda, stored, network.entry,
        reason + degradation(network.content, network.entry, key.precision))


def build_engine(
        stack: TensorRtStack, network: Network, precision: str,
        options: BuildOptions) -> StoredEngine:
    """
    Build the engine of a network into the cache, or return the one that is there already.

    Raises EngineError when it cannot be built or written; nothing is left then.
    """
    options = network.limited(options)
    cache, key = EngineCache(), network.key(precision, options, stack.environment)
    with cache.exclusive(options.watch.announce):
        try:
            # Another process may have built it while this one waited.
            return cache.find(key)
        except EngineError:
            pass
        start = time.monotonic()
        timing = cache.read_timing(stack.environment)
        built = build_plan(stack.trt, BuildRequest(
            network.path, typed_network(network.content, key.precision, network.path), options,
            timing))
        stored = cache.store(_record(key, built, time.monotonic() - start), built.plan)
        _keep_timing(cache, key.environment, built.timing, options)
    return stored


def _keep_timing(
        cache: EngineCache, environment: Environment, timing: bytes,
        options: BuildOptions) -> None:
    try:
        cache.store_timing(environment, timing)
    except EngineError as error:
        # The engine is good without them; the next build takes longer.
        options.watch.announce(f'measurements are not kept: {error}')


def _record(key: EngineKey, built: BuiltEngine, build_s: float) -> EngineRecord:
    return EngineRecord(
        key, hashlib.sha256(built.plan).hexdigest(), len(built.plan), built.inputs, built.outputs,
        round(build_s, 1))
