# SPDX-License-Identifier: Apache-2.0
"""The shipped boxes are of people who stand in the clip, and agree with other labels of it."""

from contextlib import closing
import json

import numpy as np
import pytest

from hmr_ros.demo.clip import CLIP, clip_at_hand
from hmr_ros.evaluation.errors import EvaluationError
from hmr_ros.evaluation.pedestrians import LABELS, read_pedestrians
from hmr_ros.evaluation.real_people import read_labels
from hmr_ros.perception.detection import overlaps
from hmr_ros.perception.video import VideoReader

LABELLED = read_pedestrians()
WIDTH, HEIGHT = 768, 576


def test_labels_lie_in_the_picture_and_have_human_proportions():
    assert LABELLED.file == CLIP.name
    assert [frame.number for frame in LABELLED.frames] == list(range(0, 795, 20))
    for frame in LABELLED.frames:
        boxes = np.concatenate([frame.people, frame.ignored])
        assert np.all((boxes >= 0) & (boxes <= (WIDTH, HEIGHT, WIDTH, HEIGHT))), frame.number
        wide, tall = (frame.people[:, 2:] - frame.people[:, :2]).T
        # Arms at the sides, or a long step.
        assert np.all((wide > 0.2 * tall) & (wide < 0.6 * tall)), frame.number
    people = np.concatenate([frame.people for frame in LABELLED.frames])
    assert len(people) > 200


def test_who_stands_lower_in_the_picture_is_nearer_and_taller():
    people = np.concatenate([frame.people for frame in LABELLED.frames])
    feet, tall = people[:, 3], people[:, 3] - people[:, 1]
    # The camera looks at flat ground, so that height is a linear function of the row of the feet.
    slope, offset = np.polyfit(feet, tall, 1)
    assert 0.2 < slope < 0.35
    ratio = tall / (slope * feet + offset)
    assert np.all((ratio > 0.75) & (ratio < 1.25)), people[(ratio < 0.75) | (ratio > 1.25)]


def test_nobody_is_labelled_twice():
    for frame in LABELLED.frames:
        boxes = np.concatenate([frame.people, frame.ignored])
        others = overlaps(boxes, boxes) - np.eye(len(boxes))
        assert not len(boxes) or others.max() < 0.7, frame.number


def test_boxes_agree_with_those_of_labelled_joints():
    frames = {frame.number: np.concatenate([frame.people, frame.ignored])
              for frame in LABELLED.frames}
    others = [person for person in read_labels() if person.file == LABELLED.file]
    assert len(others) > 20
    for person in others:
        # They were labelled at another time, from other cut-outs.
        assert overlaps(person.box[None], frames[person.frame]).max() > 0.8, person


@pytest.fixture
def clip():
    path = clip_at_hand()
    if path is None:
        pytest.skip('the clip of opencv-doc is not on this machine; hmr demo fetches it')
    return path


def test_the_clip_has_these_frames_and_people_differ_from_its_background(clip):
    wanted = {frame.number: frame for frame in LABELLED.frames}
    images = {}
    with closing(VideoReader(str(clip))) as video:
        for number, (image, _) in enumerate(video):
            if number in wanted:
                images[number] = image
    assert list(images) == list(wanted)
    background = np.median(np.stack(list(images.values())), axis=0)
    for number, image in images.items():
        assert image.shape == (HEIGHT, WIDTH, 3)
        moved = np.abs(image - background).max(axis=2) > 25
        for x0, y0, x1, y1 in wanted[number].people.astype(int):
            share = moved[y0:y1, x0:x1].mean()
            assert share > 0.25, (number, (x0, y0, x1, y1), share)


@pytest.mark.parametrize('change, words', [
    (lambda rows: rows[0].pop('ignored'), 'ignored'),
    (lambda rows: rows[0]['people'].append([1, 2, 3]), 'cannot be read'),
    (lambda rows: rows[0]['people'].append([9, 2, 3, 8]), r'frame 0 has the box \[9.0, 2.0'),
    (lambda rows: rows[0]['ignored'].append([-9, 2, 3, 8]), r'frame 0 has the box \[-9.0, 2.0'),
    (lambda rows: rows[1].update(frame=0), r'frames \[0, 0, 40'),
    (lambda rows: rows.clear(), r'frames \[\]')])
def test_labels_that_are_not_in_order_are_named(change, words, tmp_path):
    content = json.loads(LABELS.read_text())
    change(content['frames'])
    path = tmp_path / 'labels.json'
    path.write_text(json.dumps(content))
    with pytest.raises(EvaluationError, match=words) as error:
        read_pedestrians(path)
    assert 'labels.json' in str(error.value)
