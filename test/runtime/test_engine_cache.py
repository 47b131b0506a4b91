# SPDX-License-Identifier: Apache-2.0
"""Built engines are given out whole and for this machine, or refused with reason and remedy."""

from dataclasses import replace
import errno
import hashlib
import json
import os
from pathlib import Path
import subprocess
import sys
import time

from mock_networks import write_mock
import numpy as np
import pytest

from hmr_ros.runtime import BuildOptions, EngineError, load_engine, TensorSpec
from hmr_ros.runtime import engine_cache
from hmr_ros.runtime.engine_cache import (
    EngineCache, EngineKey, EngineRecord, Environment, verify_engine)

HERE_FOLDER = Path(__file__).resolve().parent
HERE = Environment('Orin', '8.7', '10.3.0')
KEY = EngineKey('mock', 'mock', 'a' * 64, 'fp16', 8, 'exact', HERE)
PLAN = bytes(range(256)) * 64
BUILD = BuildOptions(max_batch=4, allow_engine_build=True)


def record(key=KEY, plan=PLAN):
    image = TensorSpec('image', (-1, 3, 8, 8), 'float32')
    return EngineRecord(
        key, hashlib.sha256(plan).hexdigest(), len(plan), (image,), (image,), 1.5)


@pytest.fixture
def cache(tmp_path):
    cache = EngineCache(tmp_path / 'built')
    with cache.exclusive(print):
        cache.store(record(), PLAN)
    return cache


def files(cache):
    return sorted(p.name for p in cache.folder.iterdir() if p.name != 'build.lock')


def test_round_trip(cache):
    stored = cache.find(KEY)
    assert stored.plan == PLAN and stored.record == record()
    assert stored.path.name.startswith('mock-fp16-b8-sm87-trt10.3.0-')
    assert cache.find(replace(KEY, max_batch=3)).path == stored.path
    assert verify_engine(stored.path, HERE) == record()
    assert files(cache) == [stored.path.name, stored.path.stem + '.json']


def test_the_smallest_that_is_large_enough_is_taken(cache):
    for batch in (32, 16):
        with cache.exclusive(print):
            cache.store(record(replace(KEY, max_batch=batch)), PLAN)
    assert cache.find(replace(KEY, max_batch=9)).record.key.max_batch == 16


@pytest.mark.parametrize('changes, hint', [
    ({'environment': replace(HERE, gpu='Thor', compute_capability='11.0')},
     r"built for the GPU 'Orin' \(compute capability 8.7\), this one is 'Thor' \(11.0\)"),
    ({'environment': replace(HERE, gpu='Another')}, "this one is 'Another'"),
    ({'environment': replace(HERE, tensorrt='10.16.1')},
     'built by TensorRT 10.3.0, this one is 10.16.1'),
    ({'onnx_sha256': 'b' * 64}, 'another network.*aaaaaaaaaaaa.*wanted bbbbbbbbbbbb'),
    ({'precision': 'fp32'}, 'computes in fp16, wanted fp32'),
    ({'max_batch': 9}, 'at most 8 people, wanted 9'),
    ({'compatibility': 'version'}, 'compatibility exact, wanted version')])
def test_an_engine_for_something_else_is_refused(cache, changes, hint):
    wanted = replace(KEY, **changes)
    with pytest.raises(EngineError, match=hint) as caught:
        cache.find(wanted)
    assert wanted.remedy in str(caught.value) and 'hmr engines build mock' in wanted.remedy


def truncate(engine, sidecar):
    engine.write_bytes(PLAN[:-1])


def edit(engine, sidecar):
    engine.write_bytes(PLAN[:100] + bytes([PLAN[100] ^ 1]) + PLAN[101:])


def lose(engine, sidecar):
    sidecar.unlink()


def garble(engine, sidecar):
    sidecar.write_text('engine: yes\n')


def forget(engine, sidecar):
    content = json.loads(sidecar.read_text())
    del content['engine_sha256']
    sidecar.write_text(json.dumps(content))


def listed(engine, sidecar):
    sidecar.write_text('[]')


def newer(engine, sidecar):
    sidecar.write_text(sidecar.read_text().replace('"format": 1', '"format": 2'))


@pytest.mark.parametrize('damage, hint', [
    (truncate, '16383 bytes, its sidecar says 16384.*truncated'),
    (edit, 'SHA-256 .*its sidecar says .*damaged or changed'),
    (lose, 'no sidecar'), (garble, 'is not JSON'), (forget, 'fields of format 1.*engine_sha256'),
    (listed, 'fields of format 1'), (newer, 'fields of format 1')])
def test_a_damaged_pair_is_refused_and_never_given_to_tensorrt(cache, damage, hint):
    path, = cache.stored()
    damage(path, path.with_suffix('.json'))
    with pytest.raises(EngineError, match=hint) as caught:
        cache.find(KEY)
    assert str(path) in str(caught.value) or path.stem in str(caught.value)
    assert KEY.remedy in str(caught.value)
    for environment in (HERE, None):
        with pytest.raises(EngineError, match='hmr engines build'):
            verify_engine(path, environment)


def test_refused_engines_are_not_deserialised_but_built_again(engines, gpu):
    load_engine('mock', 'tensorrt', build=BUILD)
    path, = gpu.built.glob('*.engine')
    edit_at = len(path.read_bytes()) // 2
    content = bytearray(path.read_bytes())
    content[edit_at] ^= 1
    path.write_bytes(bytes(content))
    before = gpu.tensorrt.deserialised
    with pytest.raises(EngineError, match='damaged or changed.*hmr engines build mock'):
        load_engine('mock', 'tensorrt', build=replace(BUILD, allow_engine_build=False))
    assert gpu.tensorrt.deserialised == before
    load_engine('mock', 'tensorrt', build=BUILD)
    assert gpu.tensorrt.builds == 2 and verify_engine(path, None)


def test_an_engine_of_the_network_before_is_not_used_for_the_new_one(engines, gpu, tmp_path):
    path = str(write_mock(tmp_path / 'own.onnx'))
    load_engine(path, 'tensorrt', build=BUILD)
    write_mock(tmp_path / 'own.onnx', np.float16)
    with pytest.raises(EngineError, match='another network'):
        load_engine(path, 'tensorrt', build=replace(BUILD, allow_engine_build=False))


@pytest.mark.parametrize('compatibility, environment, fits', [
    ('version', replace(HERE, tensorrt='10.16.1'), True),
    ('version', replace(HERE, tensorrt='10.1.0'), False),
    ('version', replace(HERE, tensorrt='11.4.0'), False),
    ('version', replace(HERE, gpu='Thor', compute_capability='11.0'), False),
    ('hardware', replace(HERE, gpu='Thor', compute_capability='11.0'), True),
    ('hardware', replace(HERE, gpu='Old', compute_capability='7.5'), False),
    ('hardware', replace(HERE, tensorrt='10.16.1'), False)])
def test_compatible_engines_go_where_tensorrt_lets_them(compatibility, environment, fits):
    built = record(replace(KEY, compatibility=compatibility))
    assert (engine_cache.mismatch(built, replace(KEY, environment=environment)) is None) == fits


def test_every_part_of_the_key_is_in_the_name():
    others = [{'name': 'x'}, {'onnx_sha256': 'b' * 64}, {'precision': 'fp32'}, {'max_batch': 9},
              {'compatibility': 'version'}, {'environment': replace(HERE, gpu='Thor')},
              {'environment': replace(HERE, compute_capability='8.6')},
              {'environment': replace(HERE, tensorrt='10.4.0')}]
    stems = {replace(KEY, **changes).stem for changes in [{}, *others]}
    assert len(stems) == len(others) + 1
    assert replace(KEY, source='elsewhere/mock.onnx').stem == KEY.stem
    assert '/' not in replace(KEY, name='a/../b c').stem
    assert "'my net.onnx'" in replace(KEY, source='my net.onnx').remedy


# Two processes -------------------------------------------------------------------------------

@pytest.fixture
def start(tmp_path):
    """Return a function that starts other_process.py; `go` lets all of them begin."""
    started = []

    def start(what, cache_folder):
        environment = {
            **os.environ, 'HMR_ENGINE_CACHE_DIR': str(cache_folder),
            'PYTHONPATH': os.pathsep.join([str(HERE_FOLDER), str(HERE_FOLDER.parents[1])])}
        started.append(subprocess.Popen(
            [sys.executable, str(HERE_FOLDER / 'other_process.py'), what, str(tmp_path)],
            env=environment, stdout=subprocess.PIPE, text=True))
        return started[-1]

    start.ready = lambda: wait_until(lambda: len(list(tmp_path.glob('ready_*'))) == len(started))
    start.go = (tmp_path / 'go').touch
    yield start
    for process in started:
        process.kill()
        process.communicate()


def wait_until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, 'the other process does not get ready'
        time.sleep(0.01)


def test_two_processes_at_once_leave_one_good_file(engines, start, tmp_path):
    pytest.importorskip('onnxruntime', reason='the stand-in computes with onnxruntime')
    folder = tmp_path / 'built'
    children = [start('build', folder) for _ in range(2)]
    start.ready()
    start.go()
    results = [json.loads(child.communicate(timeout=60)[0]) for child in children]
    assert sorted(builds for builds, _, _ in results) == [0, 1], 'the other one waited and took it'
    assert results[0][1:] == results[1][1:]
    path, = folder.glob('*.engine')
    assert verify_engine(path, None) and not list(folder.glob('*.part'))


def test_a_builder_that_dies_leaves_no_lock_and_its_rest_is_swept(cache, start):
    child = start('die', cache.folder)
    start.ready()
    (cache.folder / 'rest.engine.part').write_bytes(b'half')
    told = []

    def announce(line):
        told.append(line)
        start.go()
    with cache.exclusive(announce):
        assert not (cache.folder / 'rest.engine.part').exists()
    assert child.wait(60) == 1 and len(told) == 1 and 'waiting' in told[0]


# Full disks ----------------------------------------------------------------------------------

class FullStream:
    """A file on a full disk."""

    def __init__(self, stream):
        self._stream = stream

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stream.close()

    def __getattr__(self, name):
        return getattr(self._stream, name)

    def write(self, content):
        self._stream.write(content[:10])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize('full', ['.engine.part', '.json.part'])
def test_a_full_disk_leaves_none(tmp_path, monkeypatch, full):
    cache = EngineCache(tmp_path / 'built')

    def open_full(path, *arguments, **options):
        stream = open(path, *arguments, **options)
        return FullStream(stream) if str(path).endswith(full) else stream
    monkeypatch.setattr(engine_cache, 'open', open_full, raising=False)
    with pytest.raises(EngineError, match='No space left.*free some space.*HMR_ENGINE_CACHE_DIR'):
        with cache.exclusive(print):
            cache.store(record(), PLAN)
    assert files(cache) == []


def test_a_full_disk_keeps_the_engine_that_was_there(cache, monkeypatch):
    def fsync(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr(os, 'fsync', fsync)
    with pytest.raises(EngineError, match='No space left'):
        with cache.exclusive(print):
            cache.store(record(KEY, PLAN * 2), PLAN * 2)
    assert cache.find(KEY).plan == PLAN


def test_a_disk_too_full_for_measurements_keeps_the_engine(engines, gpu, monkeypatch):
    def refuse(self, environment, measurements):
        raise EngineError('no space')
    monkeypatch.setattr(EngineCache, 'store_timing', refuse)
    assert load_engine('mock', 'tensorrt', build=BUILD).backend == 'tensorrt'
    path, = gpu.built.glob('*.engine')
    assert verify_engine(path, None)


@pytest.fixture
def tiny_disk(tmp_path):
    """Return a folder on a real file system of 64 kB."""
    folder = tmp_path / 'tiny'
    folder.mkdir()
    mounted = subprocess.run(
        ['mount', '-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', str(folder)], capture_output=True,
        check=False) if sys.platform == 'linux' else None
    if mounted is None or mounted.returncode:
        pytest.skip('a real full disk needs the right to mount a tmpfs')
    yield folder
    subprocess.run(['umount', str(folder)], check=True)


def test_a_real_full_disk_leaves_none(tiny_disk):
    cache, plan = EngineCache(tiny_disk / 'built'), PLAN * 100
    with pytest.raises(EngineError, match='No space left'):
        with cache.exclusive(print):
            cache.store(record(KEY, plan), plan)
    assert files(cache) == []
    with cache.exclusive(print):
        cache.store(record(), PLAN)
    assert cache.find(KEY).plan == PLAN


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / 'file').write_text('')
    cache = EngineCache(tmp_path / 'file' / 'built')
    with pytest.raises(EngineError, match='cannot be written.*HMR_ENGINE_CACHE_DIR'):
        with cache.exclusive(print):
            pass


def test_where_built_engines_are_kept(monkeypatch, tmp_path):
    monkeypatch.delenv('HMR_ENGINE_CACHE_DIR', raising=False)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    assert engine_cache.engine_cache_folder() == tmp_path / 'hmr_ros' / 'engines'
    monkeypatch.setenv('HMR_ENGINE_CACHE_DIR', str(tmp_path / 'mine'))
    assert engine_cache.engine_cache_folder() == tmp_path / 'mine'
