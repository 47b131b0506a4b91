# SPDX-License-Identifier: Apache-2.0
"""The manifest survives writing and reading, and says what is wrong with it."""

from dataclasses import replace

import pytest

from hmr_ros.runtime import EngineError
from hmr_ros.runtime import manifest


def test_round_trip(engines):
    entries = manifest.read_manifest(engines)
    assert list(entries) == ['mock', 'mock_2']
    entry = entries['mock']
    assert entry.inputs == {'image': (-1, 3, 8, 8)} and entry.mean == (0.5, 0.5, 0.5)
    assert entry.accuracy == {'pck': 0.5}
    temporal = replace(
        entry, licence='MIT', features_of='b' * 64, image_size=0, mean=(), std=())
    manifest.add_entry(engines, temporal)
    again = manifest.read_manifest(engines)
    assert again['mock'] == temporal and again['mock_2'] == entries['mock_2']
    assert entries['mock_2'].features_of == ''
    # What a pose engine says besides; manifests from before have none of it.
    assert (entry.color_order, entry.score_mode, entry.flip_shift) == ('rgb', '', None)


@pytest.mark.parametrize('old, new, hint', [
    ('  mock:', '  mock:\n    colour: red', 'unknown colour'),
    ('    opset: 17\n', '', 'lacks opset'),
    ('file: mock.onnx', 'file: ../mock.onnx', 'plain file name'),
    ('engines:', 'networks:', 'engines:'),
    ('engines:', 'engines: [', 'not valid YAML')])
def test_faults_are_named(engines, old, new, hint):
    path = engines / manifest.MANIFEST_NAME
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(EngineError, match=hint):
        manifest.read_manifest(engines)


def test_short_hash_is_refused(engines):
    entry = manifest.read_manifest(engines)['mock']
    with pytest.raises(EngineError, match='64 lower-case'):
        replace(entry, sha256='abc')


def test_folders_in_order(monkeypatch, tmp_path):
    monkeypatch.delenv('HMR_ENGINES_DIR', raising=False)
    monkeypatch.setenv('AMENT_PREFIX_PATH', str(tmp_path))
    share = tmp_path / 'share' / 'hmr_ros' / 'engines'
    assert share in manifest.engine_folders()
    monkeypatch.setenv('HMR_ENGINES_DIR', str(tmp_path / 'mine'))
    assert manifest.engine_folders() == [tmp_path / 'mine']
    with pytest.raises(EngineError, match='HMR_ENGINES_DIR'):
        manifest.engines_folder()
