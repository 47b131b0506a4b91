# SPDX-License-Identifier: Apache-2.0
"""The shipped labels make sense, and their reader names what is missing."""

import json

import cv2
import numpy as np
import pytest

from hmr_ros.evaluation.errors import EvaluationError
from hmr_ros.evaluation.real_people import LABELS, read_labels, read_pictures

PEOPLE = read_labels()


def test_labels_are_of_plausible_people():
    assert len(PEOPLE) >= 24
    assert len({(p.file, p.frame, *p.box) for p in PEOPLE}) == len(PEOPLE)
    for person in PEOPLE:
        low, high = person.box[:2], person.box[2:]
        assert np.all(high - low > 15)
        # Seen joints lie inside the box; a label file with x and y exchanged fails here.
        seen = person.joints[person.seen]
        assert np.all((seen >= low - 3) & (seen <= high + 3)), person
        assert person.seen.sum() >= 3


def test_labels_tell_left_from_right_by_view():
    # Column 0 of a pair is the left one: it lies on the image's right side of a person who faces
    # the camera, and the other way round for one seen from behind.
    for person in PEOPLE:
        left, right = person.joints[[0, 6], 0].mean(), person.joints[[1, 7], 0].mean()
        if person.view.startswith('front'):
            assert left > right, person
        elif person.view.startswith('back'):
            assert left < right, person


def small_labels(tmp_path):
    rows = json.loads(LABELS.read_text())['people'][:2]
    rows[0].update(file='a.png', frame=0)
    rows[1].update(file='b.avi', frame=3)
    path = tmp_path / 'labels.json'
    path.write_text(json.dumps({'people': rows}))
    return read_labels(path)


def write_video(path, frames):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), 10, (64, 48))
    assert writer.isOpened()
    for k in range(frames):
        writer.write(np.full((48, 64, 3), 40 * k, np.uint8))
    writer.release()


def test_pictures_and_the_right_frame_of_a_video(tmp_path):
    people = small_labels(tmp_path)
    cv2.imwrite(str(tmp_path / 'a.png'), np.full((48, 64, 3), 200, np.uint8))
    pictures, missing = read_pictures(tmp_path, people)
    assert missing == ['b.avi'] and len(pictures) == 1
    write_video(tmp_path / 'b.avi', 6)
    pictures, missing = read_pictures(tmp_path, people)
    assert missing == []
    assert [int(p.image.mean().round(-1)) for p in pictures] == [200, 120]
    assert [p.people[0].file for p in pictures] == ['a.png', 'b.avi']


def test_missing_and_damaged_files_are_named(tmp_path):
    people = small_labels(tmp_path)
    with pytest.raises(EvaluationError, match='none of the labelled pictures a.png, b.avi'):
        read_pictures(tmp_path, people)
    write_video(tmp_path / 'b.avi', 2)
    with pytest.raises(EvaluationError, match='b.avi ends before frame 3'):
        read_pictures(tmp_path, people)
    (tmp_path / 'a.png').write_bytes(b'no picture')
    with pytest.raises(EvaluationError, match='a.png cannot be read'):
        read_pictures(tmp_path, people)
    (tmp_path / 'labels.json').write_text('{"people": [{"file": "a"}]}')
    with pytest.raises(EvaluationError, match='labels.json cannot be read'):
        read_labels(tmp_path / 'labels.json')
