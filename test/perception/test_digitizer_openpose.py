# SPDX-License-Identifier: Apache-2.0
"""Files of OpenPose: what is in them is read, and what is wrong is named."""

from __future__ import annotations

import json

from hypothesis import given, HealthCheck, settings, strategies as st
from hypothesis.extra import numpy as arrays
import numpy as np
import pytest

from hmr_ros.perception.digitizer.joints import JOINTS, Joints
from hmr_ros.perception.digitizer.openpose import read_openpose
from hmr_ros.perception.errors import PerceptionError

BODY, LEFT, RIGHT = 'pose_keypoints_2d', 'hand_left_keypoints_2d', 'hand_right_keypoints_2d'
COUNTS = {BODY: 25, LEFT: 21, RIGHT: 21}
fresh_files = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def keypoints(count):
    return arrays.arrays(np.float64, (count, 3), elements=st.floats(0, 4096).map(
        lambda value: value if value > 0.01 else 0.0))


def written(folder, person, **others):
    path = folder / 'pose_keypoints.json'
    path.write_text(json.dumps({'version': 1.3, 'people': [person], **others}))
    return path


def flat(rows):
    return rows.ravel().tolist()


@fresh_files
@given(*map(keypoints, COUNTS.values()))
def test_what_is_written_is_read(tmp_path, body, left, right):
    path = written(tmp_path, {BODY: flat(body), LEFT: flat(left), RIGHT: flat(right),
                              'face_keypoints_2d': [], 'pose_keypoints_3d': []})
    joints, expected = read_openpose(path), Joints.from_openpose(body, left, right)
    np.testing.assert_array_equal(joints.points, expected.points)
    np.testing.assert_array_equal(joints.found, expected.found)
    at = dict(zip(JOINTS, joints.points))
    np.testing.assert_array_equal(at['left_ear'], body[18, :2])
    np.testing.assert_array_equal(at['right_little'], right[18, :2])


@fresh_files
@given(keypoints(25), st.sampled_from([None, []]))
def test_hands_may_be_missing(tmp_path, body, nothing):
    person = {BODY: flat(body)} if nothing is None else {BODY: flat(body), LEFT: [], RIGHT: []}
    joints = read_openpose(written(tmp_path, person))
    assert not joints.found[23:].any()
    assert joints.found.sum() <= (body[:, 2] > 0).sum()


@fresh_files
@given(st.sampled_from(list(COUNTS)), st.one_of(
    st.lists(st.floats(0, 9), min_size=1, max_size=100).filter(lambda v: len(v) not in (63, 75)),
    st.text(min_size=1), st.integers(), st.lists(st.text(min_size=1), min_size=1),
    st.just([None] * 75), st.just([[1.0]] * 63), st.just({'x': 1})))
def test_other_values_are_refused_by_file_and_key(tmp_path, key, values):
    person = {name: [1.0] * 3 * count for name, count in COUNTS.items()}
    path = written(tmp_path, {**person, key: values})
    with pytest.raises(PerceptionError, match=f'pose_keypoints.json: key people.0..{key} has'):
        read_openpose(path)


@pytest.mark.parametrize('text, words', [
    ('', 'cannot be read as JSON'), ('{"people": [', 'cannot be read as JSON'),
    ('[]', 'key people has nobody'), ('{}', 'key people has nobody'),
    ('{"people": []}', 'key people has nobody'), ('{"people": 3}', 'key people has nobody'),
    ('{"people": [3]}', 'key people has nobody'),
    ('{"people": [{}]}', 'pose_keypoints_2d is missing'),
    ('{"people": [{"pose_keypoints_2d": []}]}', 'pose_keypoints_2d is missing'),
    ('[' * 100000, 'cannot be read as JSON')])
def test_files_without_a_person_are_refused(tmp_path, text, words):
    path = tmp_path / 'pose.json'
    path.write_text(text)
    with pytest.raises(PerceptionError, match=words) as caught:
        read_openpose(path)
    assert str(path) in str(caught.value) and '--write_json' in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(PerceptionError, match='nothing.json'):
        read_openpose(tmp_path / 'nothing.json')


@pytest.mark.parametrize('data', [b'\xff\xfe\x00', b'{"people": [{"pose_keypoints_2d": [NaN]}]}'])
def test_bytes_that_are_no_numbers_are_refused(tmp_path, data):
    path = tmp_path / 'pose.json'
    path.write_bytes(data)
    with pytest.raises(PerceptionError, match='pose.json'):
        read_openpose(path)
