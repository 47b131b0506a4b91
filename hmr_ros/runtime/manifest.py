# SPDX-License-Identifier: Apache-2.0
"""
The list of shipped networks, `engines/manifest.yaml`: what each file is and what it was made from.

A file is only ever loaded when its SHA-256 is the one written there.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, MISSING
import hashlib
import os
from pathlib import Path
import sys
from types import MappingProxyType
from typing import Any, Mapping

import yaml

from hmr_ros.runtime.engine import EngineError, TensorSpec

MANIFEST_NAME = 'manifest.yaml'
_HEADER = (
    '# SPDX-License-Identifier: Apache-2.0\n'
    '# The networks in this folder. Written by `hmr export`; fields are explained in\n'
    '# hmr_ros/runtime/manifest.py. A file whose SHA-256 differs is never loaded.\n')


@dataclass(frozen=True)
class ManifestEntry:
    """
    One network file.

    name              how `load_engine` knows it
    network           the system: keypoint_guided, rsc_net, bidrn, mgil, mgil_detector or
                      digitizer_2k2k
    file              file name in the folder of the manifest
    sha256            hex digest of the file
    opset             ONNX operator set, 0 for packed files
    inputs, outputs   name -> shape, -1 where the batch size goes
    image_size        side in pixels of the square crop, 0 without an image input; width of the
                      picture of a detector, whose height `inputs` say
    mean, std         normalisation per channel of values 0 to 1, empty without an image
    projection        camera of the keypoints: real_camera or known_box (keypoint_guided sheet, 1.3)
    weights           how the file stores its weights: float32, float16 or int8
    keypoints_sha256  digest of the list of keypoint vertices it was trained with, '' when none
    body_model        name of the body whose shape space `betas` lives in
    body_model_sha256 digest of that body's file
    features_of       digest of the engine whose features a temporal engine takes, '' for others
    quantized_from    digest of the engine that it was quantized from, '' for others
    dtypes            of the tensors that are not float32, name -> dtype
    regressor_relu    whether its iterative regressor has activations (rsc_net sheet, 2.2), None
                      without such a regressor
    color_order       of the channels of the image: rgb or bgr
    score_mode        which of a keypoint's two peaks is its score (mgil sheet, 1): max or min, ''
                      for engines without such peaks
    flip_shift        bins of the flip test (mgil sheet, 1), None for split ratio - 1
    max_batch         most items of one call, None where any number may come
    top_score         peak that means a certain keypoint; scores are shares of it
    training_data     one sentence
    accuracy          measured numbers, name -> value, units in the names
    licence           SPDX name of the licence of the weights
    """

    name: str
    network: str
    file: str
    sha256: str
    opset: int
    inputs: Mapping[str, tuple[int, ...]]
    outputs: Mapping[str, tuple[int, ...]]
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    licence: str
    projection: str = 'real_camera'
    weights: str = 'float32'
    keypoints_sha256: str = ''
    body_model: str = ''
    body_model_sha256: str = ''
    features_of: str = ''
    quantized_from: str = ''
    dtypes: Mapping[str, str] = field(default_factory=dict)
    regressor_relu: bool | None = None
    color_order: str = 'rgb'
    score_mode: str = ''
    flip_shift: int | None = None
    top_score: float = 1.0
    max_batch: int | None = None
    training_data: str = ''
    accuracy: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if Path(self.file).name != self.file:
            raise EngineError(
                f'engine {self.name!r} names the file {self.file!r}; expected a plain file name '
                'in the folder of the manifest')
        if len(self.sha256) != 64 or set(self.sha256) - set('0123456789abcdef'):
            raise EngineError(
                f'engine {self.name!r} has sha256 {self.sha256!r}; expected 64 lower-case '
                'hexadecimal digits, as `sha256sum` prints them')


def most_of(entry: ManifestEntry | None, wanted: int) -> int:
    """Return how many items to make ready for when `wanted` are usual."""
    return min(wanted, entry.max_batch) if entry is not None and entry.max_batch else wanted


def specs(
        tensors: Mapping[str, tuple[int, ...]],
        dtypes: Mapping[str, str] = MappingProxyType({})) -> tuple[TensorSpec, ...]:
    """Tensor specifications of a manifest's name -> shape table; float32 but for `dtypes`."""
    return tuple(
        TensorSpec(name, tuple(shape), dtypes.get(name, 'float32'))
        for name, shape in tensors.items())


def _entry(name: str, raw: Any, path: Path) -> ManifestEntry:
    if not isinstance(raw, dict):
        raise EngineError(f'{path}: engine {name!r} must be a table of fields; write it again')
    known = {item.name for item in fields(ManifestEntry)} - {'name'}
    needed = {item.name for item in fields(ManifestEntry)
              if item.default is MISSING and item.default_factory is MISSING} - {'name'}
    for kind, names in (('lacks', needed - set(raw)), ('has unknown', set(raw) - known)):
        if names:
            raise EngineError(
                f'{path}: engine {name!r} {kind} {", ".join(sorted(names))}; see '
                'hmr_ros/runtime/manifest.py for the fields')
    values = dict(raw, name=name)
    for tensors in ('inputs', 'outputs'):
        values[tensors] = {key: tuple(shape) for key, shape in raw[tensors].items()}
    for triple in ('mean', 'std'):
        values[triple] = tuple(float(value) for value in raw[triple])
    return ManifestEntry(**values)


def read_manifest(folder: Path) -> dict[str, ManifestEntry]:
    """
    Read `folder/manifest.yaml`: name -> entry.

    Raises EngineError when it is missing, is not YAML, or an entry lacks a field or has one that
    is not known.
    """
    path = folder / MANIFEST_NAME
    try:
        content = yaml.safe_load(path.read_text(encoding='utf-8'))
    except OSError as error:
        raise EngineError(f'{path} cannot be read ({error.strerror}); install the package again '
                          'or set HMR_ENGINES_DIR to a folder with a manifest') from error
    except yaml.YAMLError as error:
        raise EngineError(f'{path} is not valid YAML: {error}') from error
    engines = (content or {}).get('engines') if isinstance(content or {}, dict) else None
    if not isinstance(engines, dict):
        raise EngineError(f'{path}: expected a table `engines:` of names; write it again')
    return {name: _entry(name, raw, path) for name, raw in engines.items()}


def add_entry(folder: Path, entry: ManifestEntry) -> None:
    """Write `entry` into the folder's manifest, in place of one with the same name."""
    path = folder / MANIFEST_NAME
    entries = read_manifest(folder) if path.is_file() else {}
    entries[entry.name] = entry
    content = {}
    for name, item in sorted(entries.items()):
        values = asdict(item)
        del values['name']
        for tensors in ('inputs', 'outputs'):
            values[tensors] = {key: list(shape) for key, shape in values[tensors].items()}
        values.update(
            mean=list(item.mean), std=list(item.std), dtypes=dict(item.dtypes),
            accuracy=dict(item.accuracy))
        content[name] = values
    text = yaml.safe_dump({'engines': content}, sort_keys=False, width=100)
    path.write_text(_HEADER + text, encoding='utf-8')


def engine_folders() -> list[Path]:
    """
    Folders that may hold engines, the preferred ones first.

    HMR_ENGINES_DIR alone when it is set; else the source tree, the ROS installation's shares, and
    the Python environment's share.
    """
    chosen = os.environ.get('HMR_ENGINES_DIR')
    if chosen:
        return [Path(chosen).expanduser()]
    folders = []
    source = Path(__file__).resolve().parents[2]
    if (source / 'package.xml').is_file():
        folders.append(source / 'engines')
    prefixes = [p for p in os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep) if p]
    shares = [Path(prefix) / 'share' / 'hmr_ros' / 'engines' for prefix in prefixes + [sys.prefix]]
    return folders + shares


def engines_folder() -> Path:
    """First of `engine_folders` that holds a manifest; EngineError names them all if none does."""
    folders = engine_folders()
    for folder in folders:
        if (folder / MANIFEST_NAME).is_file():
            return folder
    raise EngineError(
        f'no {MANIFEST_NAME} in {", ".join(map(str, folders))}; install the package again or set '
        'HMR_ENGINES_DIR to the folder that holds the engines')


def file_sha256(path: Path) -> str:
    """Hex digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
