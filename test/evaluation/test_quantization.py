# SPDX-License-Identifier: Apache-2.0
"""`hmr quantize` writes an engine that loads, calibrated on whom it is given, or says why not."""

from dataclasses import replace
import json
from pathlib import Path
import sys

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

pytest.importorskip('onnx', reason='quantization needs the onnx package')
pytest.importorskip('onnxruntime', reason='quantization is done by onnxruntime')
pytest.importorskip('numba', reason='synthetic people need numba')
sys.path.insert(0, str(Path(__file__).parents[1] / 'runtime'))

from mock_networks import write_convolutions  # noqa: E402

from hmr_ros import cli  # noqa: E402
from hmr_ros.body import load_body  # noqa: E402
from hmr_ros.demo import synthetic  # noqa: E402
from hmr_ros.evaluation import quantization  # noqa: E402
from hmr_ros.evaluation.errors import EvaluationError  # noqa: E402
from hmr_ros.evaluation.picture_crops import picture_feeds  # noqa: E402
from hmr_ros.evaluation.quantization import quantize_engine, Request  # noqa: E402
from hmr_ros.perception import rsc_net  # noqa: E402
from hmr_ros.perception.crops import BILINEAR  # noqa: E402
from hmr_ros.perception.errors import PerceptionError  # noqa: E402
from hmr_ros.perception.mesh_recovery import RecoverySettings  # noqa: E402
from hmr_ros.runtime import EngineError, load_engine, ManifestEntry  # noqa: E402
from hmr_ros.runtime.manifest import add_entry, file_sha256, read_manifest  # noqa: E402
from hmr_ros.training.sensitivity import BODIES  # noqa: E402

OUTPUTS = {'uvd': (96, 3), 'sigma': (96, 3), 'phi': (23, 2), 'betas': (10,), 'cam': (3,)}


@pytest.fixture
def engines(tmp_path, monkeypatch):
    """Return a folder with a tiny engine of keypoint_guided, made the preferred one."""
    path = write_convolutions(tmp_path / 'mock.onnx', outputs=OUTPUTS, size=32)
    entry = ManifestEntry(
        'mock', 'keypoint_guided', 'mock.onnx', file_sha256(path), 17, {'image': (-1, 3, 32, 32)},
        {name: (-1, *shape) for name, shape in OUTPUTS.items()}, 32, (0.5, 0.5, 0.5),
        (0.2, 0.2, 0.2), 'Apache-2.0', body_model_sha256=load_body().sha256)
    add_entry(tmp_path, entry)
    add_entry(tmp_path, replace(entry, name='filter', network='body_filter'))
    monkeypatch.setenv('HMR_ENGINES_DIR', str(tmp_path))
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    # Random weights: their bodies are nobody's, and any rounding may turn one over.
    monkeypatch.setattr(quantization._Bodies, 'measure', replace(BODIES, budget=1e4))
    monkeypatch.setattr(quantization, '_SPEED_SECONDS', 0.01)
    return tmp_path


@pytest.fixture(scope='module')
def walk(tmp_path_factory):
    """Return a clip of one second, and a folder with its first picture."""
    folder = tmp_path_factory.mktemp('walk')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthetic, 'SECONDS', 1.0)
        synthetic.write_walk(folder / 'walk.avi')
    _, picture = cv2.VideoCapture(str(folder / 'walk.avi')).read()
    (folder / 'pictures').mkdir()
    cv2.imwrite(str(folder / 'pictures' / 'people.png'), picture)
    return folder


def crops_in(source, **options):
    settings = RecoverySettings(image_size=32)
    inputs = options.pop('inputs', lambda batch, boxes: {'image': batch})
    return list(picture_feeds(str(source), settings, options.pop('style', BILINEAR), inputs))


def test_people_of_a_folder_and_of_a_video_become_crops(walk):
    found, = crops_in(walk / 'pictures')
    assert found['image'].shape[1:] == (3, 32, 32) and found['image'].dtype == np.float32
    assert 1 <= len(found['image']) <= 3
    # One picture a second of a clip of one second; the codec changes some grey levels.
    filmed, = crops_in(walk / 'walk.avi')
    assert len(filmed['image']) == len(found['image'])


def test_rsc_net_is_told_the_resolution_of_each_person(walk, tmp_path):
    picture = cv2.imread(str(walk / 'pictures' / 'people.png'))
    rows = []
    for share in (1.0, 0.5):
        folder = tmp_path / f'{share}'
        folder.mkdir()
        cv2.imwrite(str(folder / 'a.png'), cv2.resize(picture, None, fx=share, fy=share))
        found, = crops_in(folder, style=rsc_net.CROPS,
                          inputs=quantization._RscPeople.picture_inputs)
        assert found['row'].dtype == np.int32 and len(found['row']) == len(found['image'])
        rows.append(found['row'].max())
    assert rows[0] < rows[1], 'half as many pixels of a person are a later row'


def test_unusable_pictures_are_named(tmp_path):
    with pytest.raises(PerceptionError, match='none.mp4.*does not exist'):
        crops_in(tmp_path / 'none.mp4')
    with pytest.raises(PerceptionError, match='holds no pictures'):
        crops_in(tmp_path)
    cv2.imwrite(str(tmp_path / 'empty.png'), np.full((240, 320, 3), 90, np.uint8))
    with pytest.raises(EvaluationError, match='nobody was found in 1 pictures.*standing'):
        crops_in(tmp_path)
    (tmp_path / 'empty.png').write_bytes(b'no picture')
    with pytest.raises(PerceptionError, match='cannot be read|no picture'):
        crops_in(tmp_path)
    with pytest.raises(EvaluationError, match='camera.*has no end'):
        crops_in('0')


def test_unusable_engines_are_named(engines):
    with pytest.raises(EvaluationError, match="'filter' is of the network 'body_filter'.*rsc_net"):
        quantize_engine(Request('filter', engines), print)
    with pytest.raises(EngineError, match='lists: filter, mock'):
        quantize_engine(Request('nobody', engines), print)
    alone = engines / 'alone'
    alone.mkdir()
    write_convolutions(alone / 'other.onnx')
    with pytest.raises(EvaluationError, match='other.onnx.*in no manifest'):
        quantize_engine(Request(str(alone / 'other.onnx'), engines), print)
    with pytest.raises(EvaluationError, match='people is 1'):
        quantize_engine(Request('mock', engines, people=1), print)
    with pytest.raises(EvaluationError, match='mock.onnx cannot be made.*can be written'):
        quantize_engine(Request('mock', engines / 'mock.onnx'), print)


@pytest.mark.parametrize('target', ['both', 'cpu'])
def test_the_command_writes_an_engine_and_a_report(target, engines, walk, tmp_path):
    out, report = tmp_path / 'out', tmp_path / 'report.json'
    result = CliRunner().invoke(cli.app, [
        'quantize', 'mock', '--out', str(out), '--people', '4', '--target', target, '--samples',
        '3', '--pictures', str(walk / 'pictures'), '--json', str(report)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    engine = load_engine(str(out / 'mock_int8.onnx'))
    assert engine.precision == 'int8' and engine.entry.weights == 'int8'
    entry = read_manifest(out)['mock_int8']
    assert entry.network == 'keypoint_guided' and entry.image_size == 32
    found = json.loads(report.read_text())
    assert found['sha256'] == engine.sha256 and found['target'] == target
    assert found['calibrated_on']['synthetic_crops'] == 4
    assert found['calibrated_on']['picture_crops'] >= 1
    assert [row['method'] for row in found['methods'] if row['chosen']] == [
        min(found['methods'], key=lambda row: row['moved_mm'])['method']]
    assert len(found['layers']) == (9 if target == 'both' else 4)
    assert all(row['int8'] and row['moved_mm'] > 0 for row in found['layers'])
    assert [row['precision'] for row in found['accuracy']] == ['fp32', 'fp16', 'int8']
    fp32, fp16, _ = (row['pa_mpjpe_mm'] for row in found['accuracy'])
    assert fp16 == pytest.approx(fp32, rel=0.1)
    assert [(row['precision'], row['batch'], row['threads']) for row in found['speed'][:4]] == [
        ('fp32', 1, 1), ('int8', 1, 1), ('fp32', 4, 1), ('int8', 4, 1)]
    with pytest.raises(EvaluationError, match='mock_int8.onnx is quantized'):
        quantize_engine(Request(str(out / 'mock_int8.onnx'), out), print)


def test_calibration_sees_the_pictures(engines, walk, monkeypatch):
    seen = []
    calibrate = quantization.calibrate

    def spy(model, target, feeds, method):
        seen.append(sum(len(feed['image']) for feed in feeds))
        return calibrate(model, target, feeds, method)
    monkeypatch.setattr(quantization, 'calibrate', spy)
    monkeypatch.setattr(quantization, 'METHODS', ('minmax',))
    quantize_engine(Request('mock', engines / 'a', people=4), lambda line: None)
    quantize_engine(Request('mock', engines / 'b', people=4, pictures=str(walk / 'pictures')),
                    lambda line: None)
    alone, together = seen
    assert alone == 4 and together == 4 + len(crops_in(walk / 'pictures')[0]['image'])


def test_a_target_that_is_none(engines, tmp_path):
    with pytest.raises(cli.CommandError, match='--target is .gpu.; allowed: both, cpu'):
        CliRunner().invoke(cli.app, ['quantize', 'mock', '--out', str(tmp_path), '--target', 'gpu'],
                           catch_exceptions=False)


@pytest.mark.torch
@pytest.mark.parametrize('order', ['rgb', 'bgr'])
def test_pose_engines_are_judged_by_their_keypoints(order, engines, walk, monkeypatch):
    pytest.importorskip('torch', reason='the pictures of training need torch')
    outputs = {'simcc_x': (17, 96), 'simcc_y': (17, 96)}
    path = write_convolutions(engines / 'pose.onnx', outputs=outputs, size=32)
    add_entry(engines, ManifestEntry(
        'pose', 'mgil', path.name, file_sha256(path), 17, {'image': (-1, 3, 32, 32)},
        {name: (-1, *shape) for name, shape in outputs.items()}, 32, (0.5, 0.4, 0.3),
        (0.2, 0.2, 0.2), 'Apache-2.0', color_order=order, score_mode='min', flip_shift=1))
    monkeypatch.setattr(quantization, 'METHODS', ('minmax',))
    report = quantize_engine(Request('pose', engines / 'out', people=4, samples=3, pictures=str(
        walk / 'pictures')), lambda line: None)
    assert (report['measure'], report['unit'], report['budget_points']) == (
        'missed_at_1px', 'points', 1.5)
    assert report['loss'].keys() == {'moved_points', 'change_points', 'spread_points'}
    assert report['calibrated_on'].keys() == {'synthetic_crops', 'picture_crops'}
    assert [row['precision'] for row in report['accuracy']] == ['fp32', 'fp16', 'int8']
    assert all(row.keys() >= {'pck_1px_percent', 'mean_error_px'} for row in report['accuracy'])
    entry = read_manifest(engines / 'out')['pose_int8']
    assert (entry.network, entry.color_order, entry.score_mode, entry.flip_shift) == (
        'mgil', order, 'min', 1)
    assert load_engine(str(engines / 'out' / entry.file)).precision == 'int8'


def test_crops_of_pictures_are_in_the_order_of_the_engine(walk):
    rgb, bgr = (
        list(picture_feeds(str(walk / 'pictures'), RecoverySettings(
            image_size=32, mean=(0, 0, 0), std=(1, 1, 1)), BILINEAR,
            lambda batch, boxes: {'image': batch}, order))[0]['image'] for order in ('rgb', 'bgr'))
    np.testing.assert_array_equal(rgb, bgr[:, ::-1])
    assert np.abs(rgb - bgr).max() > 0.1
