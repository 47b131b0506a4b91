# SPDX-License-Identifier: Apache-2.0
"""The whole body: against smplx on the same file, its geometry, and files that are refused."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
import pickle
from typing import Any

from hmr_ros.body import BodyError, load_body, load_whole_body, WholeBodyModel
from hmr_ros.body import whole_body_joints as wb
from hmr_ros.body.loading import OPEN_BODY
from hmr_ros.body.whole_body import OPEN_WHOLE_BODY
import numpy as np
import pytest
from scipy import sparse
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

WHOLE = load_whole_body()
FLIP = np.float32([-1, 1, 1])


def arrays_of(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def people(count: int, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {'pose': rng.normal(0, 0.4, (count, 53, 3)).astype(np.float32),
            'betas': rng.normal(0, 1.2, (count, 10)).astype(np.float32),
            'expression': rng.normal(0, 1, (count, 10)).astype(np.float32),
            'transl': rng.normal(0, 2, (count, 3)).astype(np.float32)}


def at_rest(**joints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and joints of the mean person; `joints` are rows of the pose, as `p22`."""
    pose, zero = np.zeros((1, 53, 3), np.float32), np.zeros((1, 10), np.float32)
    for name, value in joints.items():
        pose[0, int(name[1:])] = value
    vertices, found = WHOLE.posed(pose, zero, zero, zero[:, :3])
    return vertices[0], found[0]


def fabricated(path: Path, width: int) -> Path:
    """Write a file with the shapes of the official one, 10475 vertices, and random numbers."""
    rng, count = np.random.default_rng(5), wb.SMPLX_VERTICES
    weights = rng.dirichlet(np.full(55, 0.05), count)
    regressor = np.zeros((55, count))
    regressor[np.arange(55)[:, None], rng.integers(count, size=(55, 8))] = 0.125
    np.savez(
        path, v_template=rng.normal(0, 0.5, (count, 3)), weights=weights, J_regressor=regressor,
        shapedirs=rng.normal(0, 0.01, (count, 3, width)).astype(np.float16),
        posedirs=rng.normal(0, 1e-3, (count, 3, 486)).astype(np.float16),
        f=rng.integers(count, size=(20908, 3)), kintree_table=np.stack(
            [np.where(wb.PARENTS < 0, 2**32 - 1, wb.PARENTS), np.arange(55)]),
        hands_meanl=rng.normal(0, 0.3, 45), hands_meanr=rng.normal(0, 0.3, 45),
        hands_componentsl=np.eye(45), hands_componentsr=np.eye(45),
        lmk_faces_idx=rng.integers(20908, size=51), lmk_bary_coords=rng.dirichlet([1, 1, 1], 51),
        dynamic_lmk_faces_idx=rng.integers(20908, size=(79, 17)),
        dynamic_lmk_bary_coords=rng.dirichlet([1, 1, 1], (79, 17)),
        joint2num=np.array({'pelvis': 0}, object))
    return path


def smplx_output(path: Path, model: WholeBodyModel, who: dict[str, np.ndarray]) -> Any:
    import smplx
    import torch
    reference = smplx.SMPLX(
        str(path), ext='npz', use_pca=False, flat_hand_mean=False, use_face_contour=True,
        batch_size=len(who['pose']))
    reference.vertex_joint_selector.extra_joints_idxs = torch.from_numpy(
        model.named_vertices.astype(np.int64))
    pose = torch.from_numpy(who['pose']).flatten(1)
    with torch.no_grad():
        return reference(
            global_orient=pose[:, :3], body_pose=pose[:, 3:66], left_hand_pose=pose[:, 66:111],
            right_hand_pose=pose[:, 111:156], jaw_pose=pose[:, 156:],
            **{name: torch.from_numpy(who[name]) for name in ('betas', 'expression', 'transl')})


@pytest.mark.torch
def test_open_whole_body_equals_smplx() -> None:
    who = people(24, 1)
    vertices, joints = WHOLE.posed(**who)
    expected = smplx_output(OPEN_WHOLE_BODY, WHOLE, who)
    np.testing.assert_allclose(vertices, expected.vertices.numpy(), atol=1e-5)
    np.testing.assert_allclose(joints, expected.joints.numpy(), atol=1e-5)


@pytest.mark.torch
@pytest.mark.parametrize('width', [20, 110, 400])
def test_official_layout_equals_smplx(tmp_path: Path, width: int) -> None:
    """Contour, pose correctives, wide shape spaces, and a pickled table nobody asked for."""
    path = fabricated(tmp_path / 'SMPLX_NEUTRAL.npz', width)
    model, who = load_whole_body(path), people(24, 2)
    # Contours are chosen by whole degrees, so both must round the same turns.
    who['pose'][:, [0, 3, 6, 9, 12]] *= np.float32([0.1, 1.5, 0.1])
    vertices, joints = model.posed(**who)
    expected = smplx_output(path, model, who)
    np.testing.assert_array_equal(model.named_vertices, wb.SMPLX_NAMED_VERTICES)
    np.testing.assert_allclose(vertices, expected.vertices.numpy(), atol=3e-5)
    np.testing.assert_allclose(joints, expected.joints.numpy(), atol=3e-5)


def test_body_agrees_with_the_open_body() -> None:
    """Flat hands: the same vertices, and 22 of the 24 joints, for any shape and pose."""
    body, who = load_body(), people(8, 3)
    pose = who['pose'].copy()
    pose[:, 22:52] = -WHOLE.hands_mean.reshape(-1, 3)
    pose[:, 52] = 0
    vertices, joints = WHOLE.posed(pose, who['betas'], 0 * who['expression'], who['transl'])
    rotmats = np.tile(np.eye(3, dtype=np.float32), (8, 24, 1, 1))
    rotmats[:, :22] = WHOLE.rotations(pose)[:, :22]
    expected, expected_joints = body.skin(rotmats, who['betas'], who['transl'])
    np.testing.assert_allclose(vertices, expected, atol=2e-6)
    np.testing.assert_allclose(joints[:, :22], expected_joints[:, :22], atol=2e-6)
    np.testing.assert_array_equal(WHOLE.faces, body.faces)


def test_mirrored_person_is_the_mirror_image() -> None:
    who, swap = people(6, 4), wb.MIRROR
    expression = who['expression']
    asymmetric = np.arange(10) >= 7
    pose = np.zeros((6, 55, 3), np.float32)
    rows = [*range(22), *range(25, 55), 22]
    pose[:, rows] = who['pose']
    mirrored = (pose[:, swap[:55]] * np.float32([1, -1, -1]))[:, rows]
    _, joints = WHOLE.posed(**{**who, 'transl': 0 * who['transl']})
    _, other = WHOLE.posed(mirrored, who['betas'], np.where(asymmetric, -1, 1) * expression,
                           0 * who['transl'])
    # Sampled shapes are symmetric to a millimetre or two: people of the source are not quite.
    np.testing.assert_allclose(other, joints[:, swap] * FLIP, atol=4e-3)
    np.testing.assert_array_equal(swap[swap], np.arange(144))


def test_template_mirrors_itself_in_weights_and_expressions() -> None:
    distance, partner = cKDTree(WHOLE.v_template).query(WHOLE.v_template * FLIP)
    assert distance.max() < 1e-4
    np.testing.assert_allclose(
        WHOLE.weights[partner][:, wb.MIRROR[:55]], WHOLE.weights, atol=1e-3)
    sign = np.where(np.arange(10) < 7, 1, -1)
    units = WHOLE.shapedirs[..., 10:]
    np.testing.assert_allclose(units[partner] * FLIP[:, None] * sign, units, atol=1e-6)


def test_supervised_joints_are_the_networks() -> None:
    assert len(wb.SUPERVISED) == 137
    np.testing.assert_array_equal(
        wb.SUPERVISED[wb.SUPERVISED_MIRROR], wb.MIRROR[wb.SUPERVISED])
    _, joints = at_rest()
    points = joints[wb.SUPERVISED]
    np.testing.assert_allclose(points[wb.SUPERVISED_MIRROR], points * FLIP, atol=2e-3)


@pytest.mark.parametrize('finger', range(5))
@pytest.mark.parametrize('joint', range(3))
def test_fingers_bend_toward_the_palm(finger: int, joint: int) -> None:
    """A turn of 0.6 rad about the mean hand's own axis brings the tip nearer to the palm."""
    row = 3 * finger + joint
    axis = WHOLE.hands_mean[0, row] / np.linalg.norm(WHOLE.hands_mean[0, row])
    tip = 66 + ('thumb', 'index', 'middle', 'ring', 'pinky').index(wb.FINGERS[finger])
    _, still = at_rest()
    _, bent = at_rest(**{f'p{22 + row}': 0.6 * axis})
    palm = 0.5 * (still[20] + still[28]) + [0, -0.03, 0]
    far = [np.linalg.norm(joints[tip] - palm) for joints in (still, bent)]
    assert far[0] - far[1] > 0.002
    moved = bent - still
    others = np.setdiff1d(np.arange(66, 76), tip)
    np.testing.assert_allclose(moved[others], 0, atol=2e-3)


def test_jaw_opens_the_mouth() -> None:
    _, shut = at_rest()
    _, open_ = at_rest(p52=[0.35, 0, 0])
    upper, lower = 76 + 45, 76 + 49
    gap = (open_ - shut)[[upper, lower], 1]
    assert abs(gap[0]) < 2e-3 and gap[1] < -0.02
    chin = 127 + 8
    assert (open_ - shut)[chin, 1] < -0.015
    np.testing.assert_allclose(open_[:22], shut[:22], atol=1e-6)


def face_of(unit: int, amount: float) -> np.ndarray:
    """Landmarks `(51, 3)` of the mean face with one unit of expression."""
    zero = np.zeros((1, 10), np.float32)
    expression = zero.copy()
    expression[0, unit] = amount
    _, joints = WHOLE.posed(np.zeros((1, 53, 3), np.float32), zero, expression, zero[:, :3])
    return joints[0, 76:127]


def test_expressions_do_what_they_are_called() -> None:
    still = face_of(0, 0)
    smile, brows, shut = face_of(0, 1.5), face_of(3, 1.5), face_of(4, 2.0)
    assert (smile - still)[[31, 37], 1].min() > 0.004
    assert (brows - still)[:10, 1].min() > 0.002
    lids = [face[[20, 26], 1] - face[[24, 30], 1] for face in (still, shut)]
    assert (lids[1] < 0.4 * lids[0]).all()
    wink = face_of(9, 1.5) - still
    assert wink[26, 1] < -0.003 < 0.001 < wink[20, 1]


def test_face_and_finger_tips_are_where_they_should_be() -> None:
    vertices, joints = at_rest()
    face = joints[76:127]
    assert face[13, 2] == pytest.approx(vertices[WHOLE.weights[:, 15] > 0.6][:, 2].max(), abs=0.01)
    assert (np.diff(face[[3, 13, 16, 34, 40], 1]) < 0).all()
    assert (np.diff(face[:10, 0]) > 0).all() and (np.diff(face[31:38, 0]) > 0).all()
    eyes = face[19:25].mean(0), face[25:31].mean(0)
    np.testing.assert_allclose(eyes, joints[[24, 23]], atol=0.045)
    tips = joints[66:71]
    assert (np.linalg.norm(tips - joints[[39, 27, 30, 36, 33]], axis=1) < 0.035).all()
    toes = joints[60:63]
    assert toes[0, 2] > toes[1, 2] > toes[2, 2] and toes[1, 0] > toes[0, 0] > 0


@pytest.mark.parametrize('row', range(55))
def test_joints_lie_in_the_skin(row: int) -> None:
    """No joint is farther from the skin than the trunk is deep."""
    limit = 0.14 if row < 22 else 0.05
    assert cKDTree(WHOLE.v_template).query(WHOLE.joint_template[row])[0] < limit


def test_rotations_add_the_mean_hand() -> None:
    pose = np.zeros((1, 53, 3), np.float32)
    matrices = WHOLE.rotations(pose)[0]
    np.testing.assert_allclose(
        Rotation.from_matrix(matrices[25:]).as_rotvec(), WHOLE.hands_mean.reshape(-1, 3), atol=1e-6)
    np.testing.assert_array_equal(matrices[:25], np.tile(np.eye(3), (25, 1, 1)))


def test_pickled_file_is_the_same_body(tmp_path: Path) -> None:
    arrays = arrays_of(OPEN_WHOLE_BODY)
    arrays['J_regressor'] = sparse.csc_matrix(arrays['J_regressor'])
    del arrays['posedirs']
    path = tmp_path / 'SMPLX_NEUTRAL.pkl'
    path.write_bytes(pickle.dumps({**arrays, 'joint2num': {'pelvis': 0}}, protocol=2))
    loaded = load_whole_body(path)
    for field in fields(WHOLE):
        if field.name not in ('name', 'sha256', 'posedirs'):
            np.testing.assert_array_equal(
                getattr(loaded, field.name), getattr(WHOLE, field.name), err_msg=field.name)


def test_file_is_small() -> None:
    assert OPEN_WHOLE_BODY.stat().st_size <= 3e6


@pytest.mark.parametrize('name, change, message', [
    ('hands_meanl', lambda a: None, 'lacks hands_meanl'),
    ('lmk_bary_coords', lambda a: a[:, :2], 'lmk_bary_coords has shape'),
    ('shapedirs', lambda a: a[..., :16], 'shapedirs has 16 coefficients'),
    ('named_vertices', lambda a: None, 'expected 10475 of SMPL-X'),
    ('weights', lambda a: a[:, :54], 'SMPL-X: 55 joints'),
    ('kintree_table', lambda a: a[:, :52], 'an SMPL-H body of 52 joints')])
def test_wrong_arrays_are_named(
        tmp_path: Path, name: str, change: Any, message: str) -> None:
    arrays = arrays_of(OPEN_WHOLE_BODY)
    arrays[name] = change(arrays[name])
    np.savez(tmp_path / 'body.npz', **{k: v for k, v in arrays.items() if v is not None})
    with pytest.raises(BodyError, match=message):
        load_whole_body(tmp_path / 'body.npz')


def test_a_body_without_hands_is_refused() -> None:
    with pytest.raises(BodyError, match='an SMPL body of 24 joints, expected SMPL-X'):
        load_whole_body(OPEN_BODY)
    with pytest.raises(BodyError, match='SMPL: 24 joints'):
        load_body(OPEN_WHOLE_BODY)
    with pytest.raises(BodyError, match='nowhere.npz cannot be read.*smpl-x.is.tue.mpg.de'):
        load_whole_body('nowhere.npz')
