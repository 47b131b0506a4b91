# SPDX-License-Identifier: Apache-2.0
"""
Built engines on disk: each a pair of an engine file and a JSON sidecar that says what it is.

A file is given out only when its sidecar names this network, GPU and TensorRT, and its size and
SHA-256 are the recorded ones. The bytes that were checked are the bytes that are returned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
import errno
import fcntl
import hashlib
import json
import os
from pathlib import Path
import re
import shlex
from typing import Any

from hmr_ros.runtime.engine import EngineError, TensorSpec
from hmr_ros.user_cache import cache_folder

SUFFIX, SIDECAR, UNFINISHED = '.engine', '.json', '.part'
FORMAT = 1
_LOCK_NAME = 'build.lock'
_DIGEST_LENGTH = 64
_NOT_IN_NAMES = re.compile(r'[^A-Za-z0-9_.]+')


@dataclass(frozen=True)
class Environment:
    """What a built engine is tied to; `compute_capability` is like '8.7', `tensorrt` '10.3.0'."""

    gpu: str
    compute_capability: str
    tensorrt: str


@dataclass(frozen=True)
class EngineKey:
    """
    What an engine is built from and for.

    name           engine or file name, for people
    source         what `hmr engines build` takes to find the network again
    onnx_sha256    digest of the ONNX file
    precision      fp32, fp16 or int8
    max_batch      most people of one call
    compatibility  one of COMPATIBILITIES
    environment    GPU and TensorRT
    """

    name: str
    source: str
    onnx_sha256: str
    precision: str
    max_batch: int
    compatibility: str
    environment: Environment

    @property
    def stem(self) -> str:
        """Return the file name without its suffix: readable, and different for each key."""
        facts = {**asdict(self), 'source': ''}
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        here = self.environment
        return (f'{_in_names(self.name)}-{self.precision}-b{self.max_batch}'
                f'-sm{_in_names(here.compute_capability).replace(".", "")}'
                f'-trt{_in_names(here.tensorrt)}-{digest[:12]}')

    @property
    def remedy(self) -> str:
        """Return the command that builds this engine."""
        words = ['hmr', 'engines', 'build', self.source, '--precision', self.precision,
                 '--max-batch', str(self.max_batch)]
        if self.compatibility != 'exact':
            words += ['--compatibility', self.compatibility]
        return f'build it with `{shlex.join(words)}`'


@dataclass(frozen=True)
class EngineRecord:
    """What the sidecar says; `engine_sha256` and `engine_bytes` are those of the engine file."""

    key: EngineKey
    engine_sha256: str
    engine_bytes: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    build_s: float


@dataclass(frozen=True)
class StoredEngine:
    """An engine whose bytes were checked; `plan` is what TensorRT deserialises."""

    path: Path
    record: EngineRecord
    plan: bytes


def engine_cache_folder() -> Path:
    """Return `$HMR_ENGINE_CACHE_DIR`, or the folder `engines` in this user's cache."""
    chosen = os.environ.get('HMR_ENGINE_CACHE_DIR')
    return Path(chosen).expanduser() if chosen else cache_folder() / 'engines'


def _in_names(text: str) -> str:
    return _NOT_IN_NAMES.sub('_', text)


def mismatch(record: EngineRecord, wanted: EngineKey) -> str | None:
    """Return why an engine is not the one wanted, in words after 'it'; None when it is."""
    built, here, there = record.key, wanted.environment, record.key.environment
    if built.onnx_sha256 != wanted.onnx_sha256:
        return (f'was built from another network (ONNX SHA-256 {built.onnx_sha256[:12]}, wanted '
                f'{wanted.onnx_sha256[:12]})')
    if not _runs_on_gpu(built, here):
        return (f'was built for the GPU {there.gpu!r} (compute capability '
                f'{there.compute_capability}), this one is {here.gpu!r} '
                f'({here.compute_capability})')
    if not _runs_in_version(built, here):
        return f'was built by TensorRT {there.tensorrt}, this one is {here.tensorrt}'
    if built.precision != wanted.precision:
        return f'computes in {built.precision}, wanted {wanted.precision}'
    if built.max_batch < wanted.max_batch:
        return f'takes at most {built.max_batch} people, wanted {wanted.max_batch}'
    if wanted.compatibility not in ('exact', built.compatibility):
        return f'was built for compatibility {built.compatibility}, wanted {wanted.compatibility}'
    return None


def _runs_on_gpu(built: EngineKey, here: Environment) -> bool:
    there = built.environment
    if built.compatibility == 'hardware':
        return _numbers(here.compute_capability) >= (8, 0)
    return (there.gpu, there.compute_capability) == (here.gpu, here.compute_capability)


def _runs_in_version(built: EngineKey, here: Environment) -> bool:
    there = built.environment
    if built.compatibility == 'version':
        old, new = _numbers(there.tensorrt), _numbers(here.tensorrt)
        return old[:1] == new[:1] and old <= new
    return there.tensorrt == here.tensorrt


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r'\d+', version))


class EngineCache:
    """A folder of built engines; several processes may use it at once."""

    def __init__(self, folder: Path | None = None) -> None:
        """Use `folder`, by default `engine_cache_folder()`; it is created when needed."""
        self.folder = folder or engine_cache_folder()

    def stored(self) -> list[Path]:
        """Return the engine files, good or not."""
        return sorted(self.folder.glob(f'*{SUFFIX}'))

    def find(self, wanted: EngineKey) -> StoredEngine:
        """
        Return the smallest engine that does what is `wanted`, checked.

        Raises EngineError when there is none; the message says what is wrong with each that was
        considered, and the command that builds the right one.
        """
        fitting, reasons = [], []
        for path in self.folder.glob(f'{_in_names(wanted.name)}-*{SUFFIX}'):
            try:
                fitting.append((path, _record_for(path, wanted)))
            except EngineError as error:
                reasons.append(str(error))
        for path, record in sorted(fitting, key=lambda pair: pair[1].key.max_batch):
            try:
                return StoredEngine(path, record, _read_plan(path, record))
            except EngineError as error:
                reasons.append(str(error))
        found = '; '.join(reasons) or 'nothing was built from it yet'
        raise EngineError(
            f'no engine of {wanted.name!r} in {self.folder} can be used: {found}; {wanted.remedy}')

    def store(self, record: EngineRecord, plan: bytes) -> StoredEngine:
        """
        Write an engine and its sidecar so that either both are there and whole, or neither.

        Call it inside `exclusive`. Raises EngineError when they cannot be written.
        """
        path = self.folder / (record.key.stem + SUFFIX)
        text = json.dumps({'format': FORMAT, **asdict(record)}, indent=1)
        unfinished = {path: plan, path.with_suffix(SIDECAR): text.encode()}
        # The sidecar goes last: an engine without one is refused.
        _write_all(unfinished)
        return StoredEngine(path, record, plan)

    @contextmanager
    def exclusive(self, announce: Callable[[str], None]) -> Iterator[None]:
        """
        Hold the folder against other builders; they would also disturb what is measured.

        The lock goes with the process that holds it, however that ends. Raises EngineError when
        the folder cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.folder / _LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise _cannot_write(self.folder, error) from error
        try:
            self._take(lock, announce)
            for rest in self.folder.glob(f'*{UNFINISHED}'):
                rest.unlink()
            yield
        finally:
            os.close(lock)

    def _take(self, lock: int, announce: Callable[[str], None]) -> None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            announce(f'another process builds an engine in {self.folder}; waiting for it')
            fcntl.flock(lock, fcntl.LOCK_EX)

    def read_timing(self, environment: Environment) -> bytes:
        """Return what earlier builds here measured, b'' when there is nothing whole."""
        try:
            content = self._timing_path(environment).read_bytes()
        except OSError:
            return b''
        digest, measurements = content[:_DIGEST_LENGTH], content[_DIGEST_LENGTH:]
        whole = hashlib.sha256(measurements).hexdigest().encode() == digest
        return measurements if whole else b''

    def store_timing(self, environment: Environment, measurements: bytes) -> None:
        """Keep measurements for later builds. Raises EngineError when they cannot be written."""
        digest = hashlib.sha256(measurements).hexdigest().encode()
        _write_all({self._timing_path(environment): digest + measurements})

    def _timing_path(self, environment: Environment) -> Path:
        facts = json.dumps(asdict(environment), sort_keys=True).encode()
        return self.folder / (f'timing-trt{_in_names(environment.tensorrt)}-'
                              f'{hashlib.sha256(facts).hexdigest()[:12]}.cache')


def _record_for(path: Path, wanted: EngineKey) -> EngineRecord:
    record = read_record(path)
    reason = mismatch(record, wanted)
    if reason:
        raise EngineError(f'{path} {reason}')
    return record


def verify_engine(path: Path, environment: Environment | None) -> EngineRecord:
    """
    Check that a pair is whole, and runs in `environment` unless that is None.

    Raises EngineError with the reason and the command that repairs it.
    """
    record = read_record(path)
    try:
        if environment is not None:
            _record_for(path, replace(record.key, environment=environment))
        _read_plan(path, record)
    except EngineError as error:
        raise EngineError(f'{error}; {record.key.remedy}') from error
    return record


def read_record(path: Path) -> EngineRecord:
    """
    Read the sidecar of the engine file `path`.

    Raises EngineError when it is missing, is not JSON, or does not say what it must.
    """
    sidecar = path.with_suffix(SIDECAR)
    try:
        content = json.loads(sidecar.read_text(encoding='utf-8'))
        return _record(content)
    except OSError as error:
        raise EngineError(
            f'{path} has no sidecar {sidecar.name} ({error.strerror}), so nothing says what it '
            'is; remove it, and build the engine again with `hmr engines build`') from error
    except ValueError as error:
        raise EngineError(
            f'{sidecar} is not JSON ({error}); remove it and {path.name}, and build the engine '
            'again with `hmr engines build`') from error
    except (KeyError, TypeError, AttributeError) as error:
        raise EngineError(
            f'{sidecar} does not have the fields of format {FORMAT} ({error!r}); remove it and '
            f'{path.name}, and build the engine again with `hmr engines build`') from error


def _record(content: dict[str, Any]) -> EngineRecord:
    values = dict(content)
    if values.pop('format') != FORMAT:
        raise KeyError('format')
    key = dict(values['key'], environment=Environment(**values['key']['environment']))
    values['key'] = EngineKey(**key)
    for kind in ('inputs', 'outputs'):
        values[kind] = tuple(
            TensorSpec(item['name'], tuple(item['shape']), item['dtype'])
            for item in values[kind])
    return EngineRecord(**values)


def _read_plan(path: Path, record: EngineRecord) -> bytes:
    try:
        plan = path.read_bytes()
    except OSError as error:
        raise EngineError(f'{path} cannot be read ({error.strerror})') from error
    if len(plan) != record.engine_bytes:
        raise EngineError(
            f'{path} has {len(plan)} bytes, its sidecar says {record.engine_bytes}; it is '
            'truncated or was changed')
    digest = hashlib.sha256(plan).hexdigest()
    if digest != record.engine_sha256:
        raise EngineError(
            f'{path} has SHA-256 {digest}, its sidecar says {record.engine_sha256}; it was '
            'damaged or changed')
    return plan


def _write_all(contents: dict[Path, bytes]) -> None:
    """Write all files, or none of them: each appears whole, in the order given."""
    unfinished = {path: path.with_name(path.name + UNFINISHED) for path in contents}
    try:
        for path, content in contents.items():
            _write_through(unfinished[path], content)
        for path, temporary in unfinished.items():
            os.replace(temporary, path)
        _sync_folder(next(iter(contents)).parent)
    except OSError as error:
        raise _cannot_write(error.filename or next(iter(contents)), error) from error
    finally:
        for temporary in unfinished.values():
            temporary.unlink(missing_ok=True)


def _write_through(path: Path, content: bytes) -> None:
    with open(path, 'wb') as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _cannot_write(path: str | Path, error: OSError) -> EngineError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    remedy = 'free some space' if full else 'make it writable'
    return EngineError(
        f'{path} cannot be written ({error.strerror}); {remedy}, or set HMR_ENGINE_CACHE_DIR to '
        'another folder')
