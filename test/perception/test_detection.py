# SPDX-License-Identifier: Apache-2.0
"""Merging of detector windows, the spread scan, and people drawn on a plain ground."""

import cv2
import numpy as np
import pytest

from hmr_ros.perception import detection
from hmr_ros.perception.detection import HogPersonDetector, HogSettings, overlaps
from hmr_ros.perception.errors import PerceptionError


def draw_person(image, x, y, tall):
    """Draw a dark upright figure, head top at `y`; returns its box."""
    unit = tall / 96
    dark = (40, 35, 30)

    def limb(x0, y0, x1, y1, width):
        cv2.line(image, (int(x + x0 * unit), int(y + y0 * unit)),
                 (int(x + x1 * unit), int(y + y1 * unit)), dark, max(int(width * unit), 1),
                 cv2.LINE_AA)

    cv2.circle(image, (int(x), int(y + 7 * unit)), int(7 * unit), (90, 110, 160), -1, cv2.LINE_AA)
    for arm in (-1, 1):
        limb(arm * 8, 20, arm * 13, 50, 6)
        limb(arm * 4, 48, arm * 7, 92, 9)
    limb(0, 24, 0, 46, 20)
    return np.float32([x - 16 * unit, y, x + 16 * unit, y + tall])


@pytest.fixture
def scene():
    """Return a picture with three people of different size, and their boxes."""
    rng = np.random.default_rng(0)
    image = np.full((480, 640, 3), 190, np.uint8)
    image = cv2.add(image, rng.integers(0, 12, image.shape, dtype=np.uint8))
    places = ((90, 80, 75), (330, 120, 120), (530, 90, 230))
    boxes = [draw_person(image, *place) for place in places]
    return cv2.GaussianBlur(image, (0, 0), 0.8), boxes


def matched(people, boxes):
    """Return, for each true box, the best overlap with a detection."""
    found = np.reshape([person.box for person in people], (-1, 4))
    return overlaps(np.stack(boxes), found).max(axis=1) if len(found) else np.zeros(len(boxes))


def test_whole_scan_finds_people_with_tight_boxes(scene):
    image, boxes = scene
    people = HogPersonDetector(HogSettings(scan_frames=1)).detect(image)
    assert len(people) == 3
    assert matched(people, boxes).min() > 0.6
    for person in people:
        true = boxes[int(np.argmax(overlaps(person.box[None], np.stack(boxes))))]
        # The crop depends on the height, so this is what must be right.
        assert (person.box[3] - person.box[1]) == pytest.approx(true[3] - true[1], rel=0.12)
    assert all(0 < person.score <= 1 and person.track_id == '' for person in people)


@pytest.mark.parametrize('parts', [2, 3, 6])
def test_spread_scan_sees_all_after_its_frames_and_from_then_on(scene, parts):
    image, boxes = scene
    detector = HogPersonDetector(HogSettings(scan_frames=parts))
    counts = [len(detector.detect(image)) for _ in range(2 * parts + 2)]
    assert counts[0] < 3 and counts[parts - 1:] == [3] * (parts + 3)
    assert matched(detector.detect(image), boxes).min() > 0.6
    empty = np.full_like(image, 190)
    assert [len(detector.detect(empty)) for _ in range(parts)] == [0] * parts


def test_nobody_in_noise_and_tiny_pictures():
    detector = HogPersonDetector(HogSettings(scan_frames=1))
    noise = np.random.default_rng(0).integers(0, 255, (240, 320, 3), dtype=np.uint8)
    assert detector.detect(noise) == []
    for shape in ((1, 1, 3), (5, 400, 3), (400, 5, 3)):
        assert detector.detect(np.zeros(shape, np.uint8)) == []
        assert HogPersonDetector().detect(np.zeros(shape, np.uint8)) == []


def test_merge_needs_hits_and_drops_giants_around_a_person():
    window = np.array([100.0, 100, 164, 228])
    windows = np.stack([window, window + 4, window - 4, [60, 40, 260, 440], [64, 44, 264, 444],
                        [500, 100, 564, 228]])
    weights = np.array([1.5, 1.0, 0.8, 0.9, 0.9, 2.0])
    people = detection._merge(windows, weights, HogSettings())
    assert len(people) == 1
    np.testing.assert_allclose(people[0].box, [112, 116, 152, 212], atol=2)


def test_image_of_another_kind_is_refused():
    with pytest.raises(PerceptionError, match='uint8'):
        HogPersonDetector().detect(np.zeros((100, 100), np.uint8))
