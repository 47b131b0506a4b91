# SPDX-License-Identifier: Apache-2.0
"""Measures of whole bodies, and evaluations of networks that answer rightly or wrongly."""

from __future__ import annotations

from dataclasses import asdict, replace
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

torch = pytest.importorskip('torch', reason='the synthetic people need torch')

from hmr_ros.body import load_whole_body  # noqa: E402
from hmr_ros.body.whole_body import WholeBodyModel  # noqa: E402
from hmr_ros.body.whole_body_joints import LEFT_HAND, LEFT_WRIST, NECK  # noqa: E402
from hmr_ros.evaluation import bidrn, bidrn_on_dataset  # noqa: E402
from hmr_ros.evaluation.datasets import ehf  # noqa: E402
from hmr_ros.evaluation.datasets.ply import read_vertices  # noqa: E402
from hmr_ros.evaluation.datasets.whole_people import LabelledMesh  # noqa: E402
from hmr_ros.evaluation.errors import EvaluationError  # noqa: E402
from hmr_ros.evaluation.whole_body_metrics import MEASURES, WholeBodyMeasures  # noqa: E402
from hmr_ros.networks.bidrn import build_network, compact  # noqa: E402
from hmr_ros.perception.rotations import axis_angle_to_matrix, matrix_to_6d  # noqa: E402
from hmr_ros.training.bidrn.people import render_whole_people, WholePeople  # noqa: E402
from hmr_ros.training.bidrn.weights import save_weights, WholeBodyFacts  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.fixture(scope='module')
def body() -> WholeBodyModel:
    return load_whole_body()


@pytest.fixture(scope='module')
def measures(body: WholeBodyModel) -> WholeBodyMeasures:
    return WholeBodyMeasures(body)


@pytest.fixture(scope='module')
def people(body: WholeBodyModel) -> WholePeople:
    return render_whole_people(body, 6, seed=11, size=96)


@pytest.fixture(scope='module')
def meshes(people: WholePeople, body: WholeBodyModel) -> np.ndarray:
    return bidrn.true_meshes(
        {'pose': people.pose, 'betas': people.betas, 'expression': people.expression}, body)


def errors(found: np.ndarray, true: np.ndarray, measures: WholeBodyMeasures) -> dict[str, float]:
    return dict(zip(MEASURES, measures(found, true).mean(0)))


# ---- measures

def test_same_meshes_have_no_error_wherever_they_are(
        meshes: np.ndarray, measures: WholeBodyMeasures) -> None:
    assert np.abs(measures(meshes + np.float32([0.3, -1, 4]), meshes)).max() < 0.01


def test_turned_and_grown_meshes_align(
        meshes: np.ndarray, measures: WholeBodyMeasures) -> None:
    turn = Rotation.from_rotvec([0.4, -0.9, 0.2]).as_matrix().astype(np.float32)
    found = errors(1.2 * meshes @ turn.T, meshes, measures)
    for name, value in found.items():
        assert value < 0.05 if name.startswith('pa_') else value > 10, name


def test_a_moved_hand_counts_as_one_of_two(
        meshes: np.ndarray, measures: WholeBodyMeasures) -> None:
    """All that is no hand stays; the wrist is a joint of the moved vertices."""
    left = measures.hands[0].vertices
    moved = meshes.copy()
    moved[:, left] += np.float32([0.05, 0, 0])
    wrist = measures.body.J_regressor[LEFT_WRIST, left].sum()
    found = errors(moved, meshes, measures)
    pelvis = measures.body.J_regressor[0, left].sum()
    assert pelvis < 1e-6
    assert found['mpvpe_all'] == pytest.approx(50 * len(left) / meshes.shape[1], rel=1e-3)
    assert found['mpvpe_hand'] == pytest.approx(0.5 * 50 * (1 - wrist), abs=0.05)
    assert found['mpvpe_face'] == pytest.approx(0, abs=0.01)


def test_parts_are_where_they_should_be(measures: WholeBodyMeasures) -> None:
    body = measures.body
    joints = body.J_regressor @ body.v_template
    left, right = (body.v_template[part.vertices] for part in measures.hands)
    assert left[:, 0].min() > joints[LEFT_WRIST, 0] - 0.05
    assert len(left) == pytest.approx(len(right), rel=0.02)
    assert np.linalg.norm(left - joints[LEFT_HAND], axis=1).max() < 0.2
    assert body.v_template[measures.face.vertices, 1].min() > joints[NECK, 1] - 0.1


def test_meshes_of_another_body_are_refused(
        meshes: np.ndarray, measures: WholeBodyMeasures) -> None:
    with pytest.raises(EvaluationError, match='Give the body of both'):
        measures(meshes[:, :100], meshes)


# ---- evaluations

def perfect(samples: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Outputs of a network that knows the labels."""
    six = matrix_to_6d(axis_angle_to_matrix(samples['pose'])).reshape(len(samples['pose']), -1)
    parts = np.split(six, np.cumsum([6, 126, 90, 90]), 1)
    return {**dict(zip(('root', 'body_pose', 'left_hand', 'right_hand', 'jaw'), parts)),
            'shape': samples['betas'], 'expression': samples['expression']}


def test_a_perfect_network_has_no_error(
        people: WholePeople, body: WholeBodyModel, measures: WholeBodyMeasures,
        monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    drawn = bidrn.held_out.draw_samples

    def remembering(*arguments: object) -> dict[str, np.ndarray]:
        seen.append(drawn(*arguments))
        return seen[-1]
    monkeypatch.setattr(bidrn.held_out, 'draw_samples', remembering)

    def run(feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        assert feeds['image'].shape == (len(people), 3, 128, 96)
        assert feeds['image'].dtype == np.float32 and 0.2 < feeds['image'].max() <= 1
        return perfect(seen[-1])
    one = bidrn.Contender('perfect', '', run, (128, 96), 'open_whole_body')
    found = bidrn.errors_of(one, people, measures)
    assert np.abs(found).max() < 0.05
    assert (bidrn.mean_pose_errors(people, measures).mean(0) > 1).all()


def test_of_two_people_each_is_compared_with_the_other(
        people: WholePeople, meshes: np.ndarray, measures: WholeBodyMeasures) -> None:
    views = np.broadcast_to(meshes[:2], (3, 2, *meshes.shape[1:]))
    found = bidrn.others_errors(views, views.sum(1), 2, measures)
    np.testing.assert_allclose(found, measures(meshes[1::-1], meshes[:2]), rtol=1e-3, atol=0.01)


def test_comparison_knows_its_spread() -> None:
    rng = np.random.default_rng(0)
    reference = rng.normal(50, 10, (400, len(MEASURES)))
    found = bidrn.compared(reference + rng.normal(2, 1, reference.shape), reference)
    assert found['mpvpe_all_change_mm'] == pytest.approx(2, abs=0.2)
    assert found['mpvpe_all_spread_mm'] == pytest.approx(1 / 20, rel=0.2)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    network = build_network(compact('bidrn'))
    return save_weights(network.state_dict(), tmp_path / 'weights.safetensors',
                        WholeBodyFacts('bidrn', asdict(network.variant)))


def test_the_report_has_all_rows(
        weights: Path, people: WholePeople, tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bidrn, 'held_out_people', lambda body, count: people)
    report = bidrn.run_evaluation([str(weights), str(weights)], len(people), tmp_path / 'out')
    first, second = report['rows']
    assert all(np.isfinite(first[f'{name}_mm']) for name in MEASURES)
    assert second['mpvpe_all_change_mm'] == second['pa_mpvpe_face_spread_mm'] == 0
    assert set(report['mean_pose']) == {f'{name}_mm' for name in MEASURES}
    written = json.loads((tmp_path / 'out' / 'report.json').read_text())
    assert written['rows'][0]['engine'] == first['engine']


def test_networks_of_another_body_or_kind_are_refused(
        weights: Path, body: WholeBodyModel) -> None:
    one = bidrn.contender(str(weights))
    bidrn.check_body(one, body)
    with pytest.raises(EvaluationError, match="knows the body 'smplx'"):
        bidrn.check_body(replace(one, body_model='smplx'), body)
    with pytest.raises(EvaluationError, match='is of the network keypoint_guided'):
        bidrn.contender('keypoint_guided')


# ---- EHF

def write_ply(path: Path, vertices: np.ndarray, form: str) -> None:
    header = (f'ply\nformat {form} 1.0\ncomment fitted\nelement vertex {len(vertices)}\n'
              'property float x\nproperty float y\nproperty float z\nelement face 1\n'
              'property list uchar int vertex_indices\nend_header\n')
    order = {'binary_little_endian': '<f4', 'binary_big_endian': '>f4'}.get(form)
    content = vertices.astype(order).tobytes() if order else ''.join(
        f'{x} {y} {z}\n' for x, y, z in vertices.tolist()).encode()
    path.write_bytes(header.encode() + content + b'\x03\x00\x00\x00\x00')


@pytest.mark.parametrize('form', ['ascii', 'binary_little_endian', 'binary_big_endian'])
def test_vertices_of_ply_files(form: str, tmp_path: Path) -> None:
    vertices = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    write_ply(tmp_path / 'mesh.ply', vertices, form)
    np.testing.assert_allclose(read_vertices(tmp_path / 'mesh.ply'), vertices, rtol=1e-6)


@pytest.mark.parametrize('content', [
    b'', b'ply\n', b'ply\nformat ascii 1.0\nelement face 1\nend_header\n',
    b'ply\nformat ascii 1.0\nelement vertex 2\nproperty float x\nproperty float y\n'
    b'property float z\nend_header\n1 2 3\n'])
def test_damaged_ply_files_are_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / 'bad.ply').write_bytes(content)
    with pytest.raises(EvaluationError, match='bad.ply'):
        read_vertices(tmp_path / 'bad.ply')


@pytest.fixture
def ehf_folder(tmp_path: Path, meshes: np.ndarray) -> Path:
    folder = tmp_path / 'EHF'
    folder.mkdir()
    for number, mesh in enumerate(meshes[:3], start=1):
        write_ply(folder / f'{number:02d}_align.ply', ehf.TO_CAMERA.inv().apply(mesh),
                  'binary_little_endian')
        cv2.imwrite(str(folder / f'{number:02d}_img.jpg'), np.full((120, 160, 3), 90, np.uint8))
        points = [[40, 20, 0.9], [80, 110, 0.8], [0, 0, 0]]
        (folder / f'{number:02d}_2Djnt.json').write_text(json.dumps(
            {'people': [{'pose_keypoints_2d': sum(points, [])}]}))
    return folder


def test_ehf_is_read(ehf_folder: Path, meshes: np.ndarray) -> None:
    people = list(ehf.read(ehf_folder))
    assert [person.person_id for person in people] == ['01', '02', '03']
    for person, mesh in zip(people, meshes):
        np.testing.assert_allclose(person.vertices, mesh, atol=1e-4)
        np.testing.assert_allclose(person.box, [31, 11, 89, 119], atol=0.01)
        assert person.file.is_file()


@pytest.mark.parametrize(('spoil', 'message'), [
    (lambda folder: (folder / '02_img.jpg').unlink(), '02_img.jpg'),
    (lambda folder: (folder / '02_2Djnt.json').write_text('{}'), 'field people'),
    (lambda folder: (folder / '02_2Djnt.json').write_text('{"people": []}'), 'people is empty'),
    (lambda folder: [path.unlink() for path in folder.glob('*.ply')], 'no file')])
def test_wrong_files_of_ehf_are_named(spoil, message: str, ehf_folder: Path) -> None:
    spoil(ehf_folder)
    with pytest.raises(EvaluationError, match=message):
        list(ehf.read(ehf_folder))


def test_networks_are_judged_on_ehf(
        weights: Path, ehf_folder: Path, body: WholeBodyModel) -> None:
    report = bidrn_on_dataset.run_evaluation([str(weights)], 'ehf', ehf_folder, body, limit=2)
    assert report['samples'] == 2 and report['dataset'] == 'ehf'
    assert report['rows'][0]['mpvpe_all_mm'] > 10
    with pytest.raises(EvaluationError, match='expected one of ehf'):
        bidrn_on_dataset.run_evaluation([str(weights)], 'coco', ehf_folder, body)


def test_predictions_for_agora_lie_where_the_camera_sees_them(
        weights: Path, body: WholeBodyModel, tmp_path: Path) -> None:
    """A person in the middle of the crop's camera is in the middle of the box."""
    picture = tmp_path / 'ag_0001.png'
    cv2.imwrite(str(picture), np.zeros((540, 960, 3), np.uint8))
    person = LabelledMesh(picture, '3', np.float32([200, 100, 320, 420]), np.zeros((1, 3)))
    one = bidrn.contender(str(weights))
    still = {name: np.zeros((1, size), np.float32) for name, size in (
        ('root', 6), ('body_pose', 126), ('left_hand', 90), ('right_hand', 90), ('jaw', 6),
        ('shape', 10), ('expression', 10))}
    pelvis = body.J_regressor[0] @ body.v_template
    still['transl'] = (np.float32([0, 0, 40]) - pelvis)[None]
    one = replace(one, run=lambda feeds: still)
    (name, number, content), = bidrn_on_dataset.predictions(one, [person], body)
    assert (name, number) == ('ag_0001.png', 3)
    assert content['joints'].shape == (127, 2) and content['allSmplJoints3d'].shape == (127, 3)
    assert {part: value.shape[1] for part, value in content['params'].items()} == {
        'global_orient': 3, 'body_pose': 63, 'left_hand_pose': 45, 'right_hand_pose': 45,
        'jaw_pose': 3, 'betas': 10, 'expression': 10, 'transl': 3}
    # In pixels of 3840 columns, four for each of the picture's.
    np.testing.assert_allclose(content['joints'][0], [4 * 260, 4 * 260], atol=0.05)
    side = 1.25 * 320
    lower = content['allSmplJoints3d'][7] - content['allSmplJoints3d'][0]
    found = (content['joints'][7] - content['joints'][0]) / 4
    np.testing.assert_allclose(found, 5000 / 256 * side * lower[:2] / 40, rtol=0.02, atol=0.5)
