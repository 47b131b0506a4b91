# SPDX-License-Identifier: Apache-2.0
"""Engines: one interface, several backends, and the manifest of shipped networks."""

from __future__ import annotations

from pathlib import Path

from hmr_ros.runtime.engine import Engine, EngineError, TensorSpec
from hmr_ros.runtime.manifest import (
    MANIFEST_NAME, ManifestEntry, engines_folder, read_manifest)

__all__ = [
    'BACKENDS', 'DEFAULT_NETWORK', 'Engine', 'EngineError', 'ManifestEntry', 'PRECISIONS',
    'TensorSpec', 'load_engine', 'resolve_engine', 'temporal_engines']

BACKENDS = ('auto', 'onnxruntime', 'tensorrt')
PRECISIONS = ('auto', 'fp32', 'fp16')
DEFAULT_NETWORK = 'keypoint_guided'


def resolve_engine(name_or_path: str) -> tuple[Path, ManifestEntry | None]:
    """
    Find an engine's file and its manifest entry.

    name_or_path  a name in the manifest, the name of a network (its first entry), or the path of
                  an ONNX file; a file outside every manifest has no entry

    Raises EngineError when there is no such engine; the message lists those there are.
    """
    if name_or_path.endswith('.onnx') or '/' in name_or_path:
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
            'of these or the path of an ONNX file')
    return folder / entry.file, entry


def temporal_engines() -> list[str]:
    """
    Return the names of the manifest's temporal engines: those made for another one's features.

    Raises EngineError when there is no manifest, or it cannot be read.
    """
    return [name for name, entry in read_manifest(engines_folder()).items() if entry.features_of]


def load_engine(
        name_or_path: str = DEFAULT_NETWORK, backend: str = 'auto', precision: str = 'auto',
        threads: int = 1) -> Engine:
    """
    Load a network, ready to run; its `entry` is the manifest entry or None.

    name_or_path  see `resolve_engine`
    backend       'auto' or 'onnxruntime' ('tensorrt' is reserved)
    precision     'auto' or 'fp32', the one that onnxruntime computes in ('fp16' is reserved)
    threads       cores one call may use; 0 lets the backend choose

    Raises EngineError when the engine is unknown, damaged or changed, or cannot run this way.
    """
    if backend not in BACKENDS:
        raise EngineError(f'backend is {backend!r}; expected one of {", ".join(BACKENDS)}')
    if backend == 'tensorrt':
        raise EngineError(
            'the tensorrt backend is not in this version; use backend "onnxruntime" (or "auto")')
    if precision not in PRECISIONS:
        raise EngineError(f'precision is {precision!r}; expected one of {", ".join(PRECISIONS)}')
    if precision == 'fp16':
        raise EngineError(
            'the onnxruntime backend computes in fp32 only (a file may still store its weights as '
            'float16); use precision "fp32" (or "auto")')
    if threads < 0:
        raise EngineError(f'threads is {threads}; expected 0 (backend chooses) or more')
    from hmr_ros.runtime.onnx_engine import OnnxEngine
    path, entry = resolve_engine(name_or_path)
    return OnnxEngine(path, entry, threads)
