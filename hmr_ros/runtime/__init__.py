# SPDX-License-Identifier: Apache-2.0
"""Engines: one interface, several backends, and the manifest of shipped networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hmr_ros.runtime.build_options import BuildOptions, BuildWatch
from hmr_ros.runtime.engine import Engine, EngineError, TensorSpec
from hmr_ros.runtime.manifest import (
    MANIFEST_NAME, ManifestEntry, engines_folder, read_manifest)
from hmr_ros.runtime.packed_file import SUFFIX as PACKED

__all__ = [
    'BACKENDS', 'BuildOptions', 'BuildWatch', 'DEFAULT_NETWORK', 'Engine', 'EngineError',
    'ManifestEntry', 'PRECISIONS', 'TensorSpec', 'engines_folder', 'load_engine',
    'load_fastest', 'quantized_engines', 'resolve_engine', 'temporal_engines']

BACKENDS = ('auto', 'onnxruntime', 'packed', 'tensorrt', 'torch')
PRECISIONS = ('auto', 'fp32', 'fp16', 'int8')
DEFAULT_NETWORK = 'keypoint_guided'


def resolve_engine(name_or_path: str) -> tuple[Path, ManifestEntry | None]:
    """
    Find an engine's file and its manifest entry.

    name_or_path  a name in the manifest, the name of a network (its first entry), or the path of
                  an engine file, ONNX or packed; one outside every manifest has no entry

    Raises EngineError when there is no such engine; the message lists those there are.
    """
    if _is_path(name_or_path):
        path = Path(name_or_path).expanduser()
        entries = read_manifest(path.parent) if (path.parent / MANIFEST_NAME).is_file() else {}
        matches = [entry for entry in entries.values() if entry.file == path.name]
        return path, matches[0] if matches else None
    folder = engines_folder()
    entries = read_manifest(folder)
    matches = [entry for entry in entries.values() if entry.network == name_or_path]
    entry = entries.get(name_or_path) or (matches[0] if matches else None)
    if entry is None:
        known = ', '.join(entries) or 'none'
        raise EngineError(
            f'no engine {name_or_path!r} in {folder / MANIFEST_NAME}; it lists: {known}. Give one '
            'of these or the path of an engine file')
    return folder / entry.file, entry


def _is_path(name: str) -> bool:
    return '/' in name or name.endswith(('.onnx', PACKED))


def temporal_engines() -> list[str]:
    """
    Return the names of the manifest's temporal engines: those made for another one's features.

    Raises EngineError when there is no manifest, or it cannot be read.
    """
    return [name for name, entry in read_manifest(engines_folder()).items() if entry.features_of]


def quantized_engines() -> dict[str, str]:
    """
    Return, for each quantized engine of the manifest, the digest of the one it was made from.

    Raises EngineError when there is no manifest, or it cannot be read.
    """
    return {entry.sha256: entry.quantized_from
            for entry in read_manifest(engines_folder()).values() if entry.quantized_from}


def load_fastest(
        name_or_path: str = DEFAULT_NETWORK, backend: str = 'auto', precision: str = 'auto',
        threads: int = 1, build: BuildOptions = BuildOptions()) -> Engine:
    """
    Load a network as `load_engine` does, or its quantized file where that is the faster one.

    That is on a processor, when it was asked for by name, with `precision` 'auto' or 'int8'.
    """
    quantized = _quantized(name_or_path)
    if precision == 'int8' and quantized is not None:
        return load_engine(quantized, backend, precision, threads, build)
    engine = load_engine(name_or_path, backend, precision, threads, build)
    if quantized is None or precision != 'auto' or engine.backend != 'onnxruntime' or (
            not engine.on_processor):
        return engine
    engine.close()
    faster = load_engine(quantized, 'onnxruntime', 'int8', threads)
    faster.reason = f'{engine.reason}; quantized, as precision is auto'
    return faster


def _quantized(name_or_path: str) -> str | None:
    """Return the name of the engine that was quantized from the named one; None for paths."""
    if _is_path(name_or_path):
        return None
    _, original = resolve_engine(name_or_path)
    return next((name for name, entry in read_manifest(engines_folder()).items()
                 if entry.quantized_from == original.sha256), None)


def load_engine(
        name_or_path: str = DEFAULT_NETWORK, backend: str = 'auto', precision: str = 'auto',
        threads: int = 1, build: BuildOptions = BuildOptions()) -> Engine:
    """
    Load a network, ready to run; its `entry` is the manifest entry or None.

    name_or_path  see `resolve_engine`
    backend       'onnxruntime', 'tensorrt', 'torch', 'packed' for files of packed bits, or 'auto':
                  packed for those; for ONNX files tensorrt where there is one with a GPU and an
                  engine that was built for it, else torch where it sees a GPU, else onnxruntime;
                  `reason` of the result says why
    precision     'fp32', 'fp16', 'int8' (files with explicit quantization), or 'auto': what the
                  backend is best at; onnxruntime computes in fp32, quantized files in int8; torch
                  in fp32 unless told otherwise; packed files are auto
    threads       cores one call may use on the CPU; 0 lets the backend choose
    build         for engines that are built for a GPU: how, and whether now

    Raises EngineError when the engine is unknown, damaged or changed, or cannot run this way.
    """
    for option, value, allowed in (
            ('backend', backend, BACKENDS), ('precision', precision, PRECISIONS)):
        if value not in allowed:
            raise EngineError(f'{option} is {value!r}; expected one of {", ".join(allowed)}')
    if threads < 0:
        raise EngineError(f'threads is {threads}; expected 0 (backend chooses) or more')
    path, entry = resolve_engine(name_or_path)
    reason = f'backend {backend} was asked for'
    if path.name.endswith(PACKED) or backend == 'packed':
        return _open_packed(path, entry, backend, precision, threads)
    if backend == 'auto':
        return _open_best(path, entry, precision, threads, build)
    if backend == 'tensorrt':
        from hmr_ros.runtime import tensorrt_backend
        return _open_tensorrt(
            tensorrt_backend.find_stack(), path, entry, precision, build, reason)
    if backend == 'torch':
        from hmr_ros.runtime import torch_backend
        return torch_backend.open_engine(
            torch_backend.find_torch(), path, entry, precision, threads, reason)
    return _open_onnx(path, entry, precision, threads, reason)


def _open_best(
        path: Path, entry: ManifestEntry | None, precision: str, threads: int,
        build: BuildOptions) -> Engine:
    from hmr_ros.runtime import tensorrt_backend, torch_backend
    try:
        stack = tensorrt_backend.find_stack()
        return _open_tensorrt(
            stack, path, entry, precision, build,
            f'TensorRT {stack.trt.__version__} and the GPU {stack.device.name} are here')
    except EngineError as error:
        reason = f'not tensorrt: {error}'
    try:
        torch = torch_backend.find_torch_with_gpu()
        return torch_backend.open_engine(torch, path, entry, precision, threads, reason)
    except EngineError as error:
        reason += f'; not torch: {error}'
    return _open_onnx(path, entry, precision, threads, reason)


def _open_packed(
        path: Path, entry: ManifestEntry | None, backend: str, precision: str,
        threads: int) -> Engine:
    if backend not in ('auto', 'packed'):
        raise EngineError(f'{path} holds packed bits, which the backend {backend} does not know; '
                          'use backend packed or auto, or the ONNX engine of this network')
    from hmr_ros.runtime import packed_engine
    reason = 'the file holds packed bits' if backend == 'auto' else 'backend packed was asked for'
    return packed_engine.open_engine(path, entry, precision, threads, reason)


def _open_tensorrt(
        stack: Any, path: Path, entry: ManifestEntry | None, precision: str, build: BuildOptions,
        reason: str) -> Engine:
    from hmr_ros.runtime import tensorrt_backend
    network = tensorrt_backend.Network.read(path, entry)
    return tensorrt_backend.open_engine(stack, network, precision, build, reason)


def _open_onnx(
        path: Path, entry: ManifestEntry | None, precision: str, threads: int,
        reason: str) -> Engine:
    from hmr_ros.runtime.onnx_engine import OnnxEngine
    return OnnxEngine(path, entry, threads, reason, precision)
