# SPDX-License-Identifier: Apache-2.0
"""What engines there are, shipped and built, and which of them would be refused."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from hmr_ros.runtime.engine import EngineError
from hmr_ros.runtime.engine_cache import EngineCache, Environment, verify_engine
from hmr_ros.runtime.manifest import engines_folder, file_sha256, read_manifest

OK = 'ok'


def shipped_engines() -> dict[str, dict[str, Any]]:
    """
    Return the manifest, name -> fields, with the `state` of each file: ok, or what is wrong.

    Raises EngineError when there is no manifest.
    """
    folder, listed = engines_folder(), {}
    for name, entry in read_manifest(folder).items():
        path = folder / entry.file
        state = 'missing' if not path.is_file() else (
            OK if file_sha256(path) == entry.sha256 else 'changed: will be refused')
        listed[name] = {**asdict(entry), 'state': state}
    return listed


def built_engines(environment: Environment | None) -> list[dict[str, Any]]:
    """
    Return the built engines: file, the fields of their keys, bytes, and `state` as above.

    environment  GPU and TensorRT they should run on; None compares the files alone
    """
    rows = []
    for path in EngineCache().stored():
        row = {'file': str(path), 'bytes': path.stat().st_size, 'state': OK}
        try:
            row.update(asdict(verify_engine(path, environment).key))
        except EngineError as error:
            row['state'] = str(error)
        rows.append(row)
    return rows
