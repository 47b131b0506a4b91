# SPDX-License-Identifier: Apache-2.0
"""Rotations agree with scipy, in both precisions, near 0 and pi as well."""

from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hmr_ros.perception import rotations

DIRECTIONS = arrays(np.float64, 3, elements=st.floats(-1, 1)).filter(
    lambda v: np.linalg.norm(v) > 1e-3)
ANGLES = st.one_of(
    st.floats(0, 4 * np.pi), st.sampled_from([0.0, 1e-30, 1e-8, 1e-4]),
    st.floats(-1e-4, 1e-4).map(lambda e: np.pi + e))
TOLERANCE = {np.float32: 3e-6, np.float64: 1e-12}


def rotation_vector(direction, angle):
    return direction / np.linalg.norm(direction) * angle


@pytest.mark.parametrize('dtype', [np.float32, np.float64])
@settings(deadline=None, max_examples=150)
@given(direction=DIRECTIONS, angle=ANGLES)
def test_matrix_equals_scipy(dtype, direction, angle):
    vector = rotation_vector(direction, angle).astype(dtype)
    matrix = rotations.axis_angle_to_matrix(vector)
    assert matrix.dtype == dtype
    expected = Rotation.from_rotvec(vector.astype(np.float64)).as_matrix()
    np.testing.assert_allclose(matrix, expected, atol=TOLERANCE[dtype])


@pytest.mark.parametrize('dtype', [np.float32, np.float64])
@settings(deadline=None, max_examples=150)
@given(direction=DIRECTIONS, angle=ANGLES)
def test_round_trips(dtype, direction, angle):
    matrix = Rotation.from_rotvec(rotation_vector(direction, angle)).as_matrix().astype(dtype)
    quaternion = rotations.matrix_to_quaternion(matrix)
    axis_angle = rotations.matrix_to_axis_angle(matrix)
    assert quaternion[0] >= 0 and abs(np.linalg.norm(quaternion) - 1) < TOLERANCE[dtype]
    assert np.linalg.norm(axis_angle) <= np.pi + TOLERANCE[dtype]
    for back in (
            rotations.quaternion_to_matrix(quaternion),
            rotations.axis_angle_to_matrix(axis_angle),
            rotations.quaternion_to_matrix(rotations.axis_angle_to_quaternion(axis_angle))):
        np.testing.assert_allclose(back, matrix, atol=TOLERANCE[dtype])


def test_batches_keep_their_leading_axes():
    vectors = np.random.default_rng(0).normal(size=(5, 24, 3)).astype(np.float32)
    matrices = rotations.axis_angle_to_matrix(vectors)
    expected = Rotation.from_rotvec(vectors.reshape(-1, 3)).as_matrix().reshape(5, 24, 3, 3)
    np.testing.assert_allclose(matrices, expected, atol=1e-6)
    quaternions = rotations.matrix_to_quaternion(matrices)
    assert quaternions.shape == (5, 24, 4)
    # scipy writes (x, y, z, w); the sign of a quaternion is free.
    other = np.roll(Rotation.from_matrix(expected.reshape(-1, 3, 3)).as_quat(), 1, axis=-1)
    dots = np.sum(quaternions.reshape(-1, 4) * other, axis=-1)
    np.testing.assert_allclose(np.abs(dots), 1, atol=1e-6)
    assert rotations.matrix_to_axis_angle(matrices[:0]).shape == (0, 24, 3)


def test_skew_is_the_cross_product():
    a, b = np.random.default_rng(1).normal(size=(2, 7, 3))
    np.testing.assert_allclose(
        (rotations.skew(a) @ b[..., None])[..., 0], np.cross(a, b), atol=1e-15)


def test_rotation_angle_of_small_and_large_turns():
    angles = np.array([0, 1e-5, 0.5, np.pi - 1e-5])
    turned = rotations.axis_angle_to_matrix(np.outer(angles, [0, 0, 1.0]))
    base = rotations.axis_angle_to_matrix(np.array([0.3, -0.2, 0.9]))
    np.testing.assert_allclose(rotations.rotation_angle(base, base @ turned), angles, atol=1e-12)


@settings(deadline=None, max_examples=60)
@given(first=DIRECTIONS, second=DIRECTIONS, angles=st.tuples(ANGLES, ANGLES))
def test_quaternion_product_turns_the_second_by_the_first(first, second, angles):
    vectors = [rotation_vector(v, angle) for v, angle in zip((first, second), angles)]
    one, other = (rotations.axis_angle_to_quaternion(v) for v in vectors)
    product = rotations.quaternion_to_matrix(rotations.quaternion_product(one, other))
    expected = Rotation.from_rotvec(vectors[0]) * Rotation.from_rotvec(vectors[1])
    np.testing.assert_allclose(product, expected.as_matrix(), atol=1e-12)
    back = rotations.quaternion_product(rotations.quaternion_conjugate(one), one)
    np.testing.assert_array_equal(back[1:], 0, 'no rotation at all, to the last bit')


def test_six_numbers_are_the_first_two_columns_row_by_row():
    np.testing.assert_array_equal(rotations.matrix_from_6d([1, 0, 0, 1, 0, 0]), np.eye(3))
    np.testing.assert_array_equal(
        rotations.matrix_from_6d([1, 0, 0, -1, 0, 0]), np.diag([1, -1, -1]))
    matrices = Rotation.random(48, random_state=4).as_matrix().reshape(2, 24, 3, 3)
    numbers = rotations.matrix_to_6d(matrices)
    np.testing.assert_array_equal(numbers[1, 5, 2:4], matrices[1, 5, 1, :2])
    np.testing.assert_allclose(rotations.matrix_from_6d(numbers), matrices, atol=1e-12)


@settings(deadline=None, max_examples=60)
@given(numbers=arrays(np.float32, (24, 6), elements=st.floats(-2, 2, width=32)))
def test_any_six_numbers_give_a_rotation_unless_they_name_no_plane(numbers):
    matrix = rotations.matrix_from_6d(numbers)
    assert matrix.dtype == np.float32 and np.all(np.isfinite(matrix))
    columns = numbers.reshape(24, 3, 2).astype(np.float64)
    area = np.linalg.norm(np.cross(columns[..., 0], columns[..., 1]), axis=-1)
    good = matrix[(area > 1e-2) & (np.linalg.norm(columns, axis=-2).min(-1) > 0.1)]
    np.testing.assert_allclose(
        np.swapaxes(good, -1, -2) @ good, np.broadcast_to(np.eye(3), good.shape), atol=1e-4)
    np.testing.assert_allclose(np.linalg.det(good), 1, atol=1e-4)
