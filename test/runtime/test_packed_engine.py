# SPDX-License-Identifier: Apache-2.0
"""The packed backend: loads what was exported, refuses what it must, and runs without torch."""

from __future__ import annotations

import json
from pathlib import Path
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip('numba', reason='packed engines need numba')
torch = pytest.importorskip('torch', reason='the networks are torch')

from hmr_ros.body.whole_body import load_whole_body  # noqa: E402
from hmr_ros.networks.bidrn import build_network, compact  # noqa: E402
from hmr_ros.perception.camera import Camera  # noqa: E402
from hmr_ros.perception.person import PersonBox  # noqa: E402
from hmr_ros.perception.recoveries import recovery_for  # noqa: E402
from hmr_ros.runtime import Engine, EngineError, load_engine, TensorSpec  # noqa: E402
from hmr_ros.runtime.packed_file import OUTPUTS  # noqa: E402
from hmr_ros.training.bidrn.packing import export_engine  # noqa: E402
from hmr_ros.training.bidrn.weights import WholeBodyFacts  # noqa: E402
from hmr_ros.training.errors import TrainingError  # noqa: E402

pytestmark = pytest.mark.torch
BODY = load_whole_body()


@pytest.fixture(scope='module')
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp('engines')
    export_engine(
        build_network(compact('bidrn')).eval(), BODY, folder, 'bidrn', 'float16')
    return folder


@pytest.fixture
def packed_engines(
        exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for path in exported.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.setenv('HMR_ENGINES_DIR', str(tmp_path))
    return tmp_path


def images(count: int) -> np.ndarray:
    return np.random.default_rng(0).random((count, 3, 256, 192), np.float32)


@pytest.mark.parametrize(('how', 'backend'), [
    ('bidrn', 'auto'), ('bidrn', 'packed'), ('path', 'auto')])
def test_named_specs_and_results(packed_engines: Path, how: str, backend: str) -> None:
    path = packed_engines / 'bidrn.packed.npz'
    engine = load_engine(str(path) if how == 'path' else how, backend)
    assert isinstance(engine, Engine)
    assert (engine.name, engine.backend, engine.precision) == ('bidrn', 'packed', 'binary')
    assert engine.on_processor and 'packed' in engine.reason and len(engine.sha256) == 64
    assert engine.inputs == (TensorSpec('image', (-1, 3, 256, 192), 'float32'),)
    found = engine.run({'image': images(3)})
    assert list(found) == [spec.name for spec in engine.outputs] == list(OUTPUTS)
    for spec in engine.outputs:
        assert spec.takes(found[spec.name].shape) and found[spec.name].dtype == np.float32
        assert np.isfinite(found[spec.name]).all()


def test_results_are_the_callers_and_alike_with_any_threads(packed_engines: Path) -> None:
    one, three = load_engine('bidrn'), load_engine('bidrn', threads=3)
    first = one.run({'image': images(2)})
    kept = {name: value.copy() for name, value in first.items()}
    one.run({'image': 1 - images(2)})
    other = three.run({'image': images(2)})
    for name, value in kept.items():
        np.testing.assert_array_equal(first[name], value)
        # A product of fewer rows may round otherwise.
        np.testing.assert_allclose(other[name], value, atol=1e-3 * np.abs(value).max() + 1e-6)
    three.close()


def test_closed_engine_and_wrong_feeds(packed_engines: Path) -> None:
    engine = load_engine('bidrn')
    with pytest.raises(EngineError, match=r'expected float32 \[-1, 3, 256, 192\]'):
        engine.run({'image': images(1)[:, :, :128]})
    engine.close()
    with pytest.raises(EngineError, match='closed'):
        engine.run({'image': images(1)})


@pytest.mark.parametrize(('options', 'hint'), [
    ({'backend': 'onnxruntime'}, 'packed bits, which the backend onnxruntime does not know'),
    ({'precision': 'fp16'}, 'weights of one bit, but precision is fp16')])
def test_options_that_cannot_be_had(
        packed_engines: Path, options: dict[str, str], hint: str) -> None:
    with pytest.raises(EngineError, match=hint):
        load_engine('bidrn', **options)


def test_files_of_other_kinds(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match='net.onnx is none; give one that `hmr export bidrn'):
        load_engine(str(tmp_path / 'net.onnx'), 'packed')


def test_without_numba(packed_engines: Path) -> None:
    program = ('import sys; sys.modules["numba"] = None\n'
               'from hmr_ros.runtime import EngineError, load_engine\n'
               'try: load_engine("bidrn")\n'
               'except EngineError as error: print(error)')
    told = subprocess.check_output([sys.executable, '-c', program], text=True)
    assert 'pip install numba' in told


def test_it_runs_without_torch_and_onnx(packed_engines: Path) -> None:
    program = ('import sys, numpy\nfrom hmr_ros.runtime import load_engine\n'
               'engine = load_engine("bidrn")\n'
               'engine.run({"image": numpy.zeros((1, 3, 256, 192), numpy.float32)})\n'
               'print([m for m in ("torch", "onnx", "onnxruntime") if m in sys.modules])')
    assert subprocess.check_output([sys.executable, '-c', program], text=True).strip() == '[]'


def test_people_of_an_image_are_read_from_it(packed_engines: Path) -> None:
    recovery = recovery_for(load_engine('bidrn'), BODY, 4)
    image = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    people = recovery.recover(image, 'bgr', Camera.from_fov(640, 480, 55.0), [
        PersonBox(np.float32([100, 50, 260, 450]), 1.0, 'p0'),
        PersonBox(np.float32([400, 100, 500, 400]), 0.9, 'p1')])
    assert [person.track_id for person in people] == ['p0', 'p1']
    assert all(person.hands_and_face.hand_pose.shape == (2, 15, 3) for person in people)


# ---- damage

def rewritten(path: Path, change) -> Path:
    """Copy a file beside the manifest's, with its arrays changed."""
    with np.load(path) as found:
        arrays = dict(found)
    change(arrays)
    target = path.parent / 'changed.packed.npz'
    with open(target, 'wb') as file:
        np.savez(file, **arrays)
    return target


def test_changed_cut_and_foreign_files(packed_engines: Path) -> None:
    path = packed_engines / 'bidrn.packed.npz'
    content = path.read_bytes()
    path.write_bytes(content + b'\0')
    with pytest.raises(EngineError, match='SHA-256.*manifest says'):
        load_engine('bidrn')
    for wrong in (content[:len(content) // 2], b'', b'not a network',
                  content[:4000] + b'\xff\xff' + content[4002:]):
        other = packed_engines / 'other.packed.npz'
        other.write_bytes(wrong)
        with pytest.raises(EngineError, match='other.packed.npz is not a packed network'):
            load_engine(str(other))


def _drop(arrays: dict) -> None:
    del arrays['body.0.0.bits']


def _shorten(arrays: dict) -> None:
    arrays['hand.1.0.bend'] = arrays['hand.1.0.bend'][..., :-1]


def _retype(arrays: dict) -> None:
    arrays['face.0.1.bits'] = arrays['face.0.1.bits'].astype(np.int32)


def _spoil(arrays: dict) -> None:
    arrays['box_net.bbox_center.weight'][0] = np.nan


def _pickle(arrays: dict) -> None:
    arrays['body.0.0.bits'] = np.array([{}], object)


def _age(arrays: dict) -> None:
    header = json.loads(str(arrays['header']))
    arrays['header'] = np.array(json.dumps({**header, 'format': 0}))


def _forget(arrays: dict) -> None:
    header = json.loads(str(arrays['header']))
    del header['growth']
    arrays['header'] = np.array(json.dumps(header))


@pytest.mark.parametrize(('change', 'hint'), [
    (_drop, "lacks the array 'body.0.0.bits'"),
    (_shorten, r"'hand.1.0.bend'.*float32 \[1, 5, 47\]; expected float32 \[1, 5, 48\]"),
    (_retype, r"'face.0.1.bits'.*int32.*expected uint64"), (_spoil, "bbox_center.weight'.*NaN"),
    (_pickle, 'not a packed network'), (_age, 'not of format 1'), (_forget, "lacks 'growth'")])
def test_damaged_arrays_are_named(packed_engines: Path, change, hint: str) -> None:
    path = rewritten(packed_engines / 'bidrn.packed.npz', change)
    with pytest.raises(EngineError, match=f'changed.packed.npz.*{hint}|{hint}'):
        load_engine(str(path))


def test_a_manifest_that_disagrees_with_the_file(packed_engines: Path) -> None:
    path = packed_engines / 'manifest.yaml'
    path.write_text(path.read_text().replace('- 126', '- 125'))
    with pytest.raises(EngineError, match=r'body_pose float32\[-1, 126\].*manifest lists'):
        load_engine('bidrn')


def test_weights_of_another_body_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="'smplx'.*'open_whole_body' was given"):
        export_engine(build_network(compact('bidrn')), BODY, tmp_path, 'x', 'float16',
                      WholeBodyFacts(body_model='smplx'))


def test_other_kinds_of_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match='float16 or float32, not int8'):
        export_engine(build_network(compact('bidrn')), BODY, tmp_path, 'x', 'int8')
