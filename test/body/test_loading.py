# SPDX-License-Identifier: Apache-2.0
"""Body files: SMPL-format .npz and .pkl, and everything that must be refused."""

from __future__ import annotations

import os
from pathlib import Path
import pickle
import sys
import types

from hmr_ros.body import BodyError, load_body
from hmr_ros.body.loading import OPEN_BODY
import numpy as np
import pytest
from scipy import sparse


class Ch:
    """Stands for chumpy.ch.Ch when a file is written; unpickling never sees it."""

    def __init__(self, x: np.ndarray) -> None:
        self.x = x


class Select:
    """Stands for chumpy.reordering.Select: a.ravel()[idxs]."""

    def __init__(self, a: object, idxs: np.ndarray, preferred_shape: tuple[int, ...]) -> None:
        self.a, self.idxs, self.preferred_shape = a, idxs, preferred_shape


@pytest.fixture()
def chumpy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pickle find the stand-ins under chumpy's names while a file is written."""
    for module, kind in (('chumpy.ch', Ch), ('chumpy.reordering', Select)):
        fake = types.ModuleType(module)
        setattr(fake, kind.__name__, kind)
        monkeypatch.setitem(sys.modules, module, fake)
        monkeypatch.setattr(kind, '__module__', module)
    monkeypatch.setitem(sys.modules, 'chumpy', types.ModuleType('chumpy'))


def open_arrays() -> dict[str, np.ndarray]:
    with np.load(OPEN_BODY) as file:
        return {name: file[name] for name in file.files}


def test_official_pickle_layout_loads(tmp_path: Path, chumpy: None) -> None:
    """Chumpy objects and sparse regressors, Python 2 protocol, foreign extras."""
    arrays = open_arrays()
    template, shapedirs = arrays['v_template'].astype(np.float64), arrays['shapedirs']
    wide = np.concatenate([shapedirs, np.ones_like(shapedirs)], axis=2)
    picked = np.arange(wide.size).reshape(wide.shape)[:, :, :10]
    content = {
        **arrays, 'v_template': Ch(template), 'bs_style': 'lbs', 'vert_sym_idxs': np.arange(3),
        'shapedirs': Select(Ch(wide), picked.ravel(), shapedirs.shape),
        'J_regressor': sparse.csc_matrix(arrays['J_regressor'])}
    path = tmp_path / 'SMPL_NEUTRAL.pkl'
    path.write_bytes(pickle.dumps(content, protocol=2))
    body, expected = load_body(path), load_body()
    for name in ('v_template', 'shapedirs', 'J_regressor', 'weights', 'faces', 'parents'):
        np.testing.assert_allclose(getattr(body, name), getattr(expected, name), atol=1e-7)
    assert body.name == 'SMPL_NEUTRAL'


class Attack:
    """A pickle that would run a command."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f'touch {self.path}',)


@pytest.mark.parametrize('payload', [
    lambda path: Attack(path),
    lambda path: {'v_template': Attack(path)},
    lambda path: {'v_template': np.array([Attack(path)], object)}])
def test_pickle_that_runs_code_is_refused(tmp_path: Path, payload: object) -> None:
    marker, path = tmp_path / 'ran', tmp_path / 'evil.pkl'
    path.write_bytes(pickle.dumps(payload(marker)))
    with pytest.raises(BodyError, match='evil.pkl is refused.*system'):
        load_body(path)
    assert not marker.exists()


@pytest.mark.parametrize('name', ['builtins.eval', 'numpy.load', 'builtins.getattr'])
def test_pickle_that_asks_for_functions_is_refused(tmp_path: Path, name: str) -> None:
    module, function = name.split('.')
    path = tmp_path / 'evil.pkl'
    path.write_bytes(f"c{module}\n{function}\n(S'1'\ntR.".encode())
    with pytest.raises(BodyError, match=name):
        load_body(path)


def test_missing_file_names_path_and_source(tmp_path: Path) -> None:
    with pytest.raises(BodyError, match='nowhere.npz cannot be read.*smpl.is.tue.mpg.de'):
        load_body(tmp_path / 'nowhere.npz')


@pytest.mark.parametrize('content', [b'', b'PK\x03\x04broken', b'text'])
def test_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    for name in ('body.npz', 'body.pkl'):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(BodyError, match=name):
            load_body(tmp_path / name)


@pytest.mark.parametrize('name, change, message', [
    ('weights', lambda a: None, 'lacks weights'),
    ('weights', lambda a: a[:, :20], 'weights has shape'),
    ('shapedirs', lambda a: a[..., :4], '10 or more'),
    ('f', lambda a: a + 10000, 'vertex indices below')])
def test_wrong_arrays_are_named(
        tmp_path: Path, name: str, change: object, message: str) -> None:
    arrays = open_arrays()
    arrays[name] = change(arrays[name])
    arrays = {key: value for key, value in arrays.items() if value is not None}
    np.savez(tmp_path / 'body.npz', **arrays)
    with pytest.raises(BodyError, match=message):
        load_body(tmp_path / 'body.npz')


def test_markers_are_found_on_a_file_without_them(tmp_path: Path) -> None:
    arrays = open_arrays()
    for name in ('leaf_vertices', 'marker_vertices'):
        del arrays[name]
    np.savez(tmp_path / 'body.npz', **arrays)
    body, expected = load_body(tmp_path / 'body.npz'), load_body()
    np.testing.assert_array_equal(body.marker_vertices, expected.marker_vertices)
    np.testing.assert_array_equal(body.leaf_vertices, expected.leaf_vertices)
