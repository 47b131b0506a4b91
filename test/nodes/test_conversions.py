# SPDX-License-Identifier: Apache-2.0
"""Messages to arrays and back."""

from __future__ import annotations

import array
from dataclasses import fields
from types import SimpleNamespace

import cv2
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
import numpy as np
import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed')
from rclpy.serialization import deserialize_message, serialize_message  # noqa: E402
from sensor_msgs.msg import CameraInfo, CompressedImage, Image  # noqa: E402
from std_msgs.msg import Header  # noqa: E402

from hmr_ros.msg import Keypoints2D, Keypoints2DArray, SmplArray  # noqa: E402
from hmr_ros.nodes import conversions  # noqa: E402
from hmr_ros.nodes.errors import NodeError  # noqa: E402
from hmr_ros.perception.camera import Camera, CameraSource  # noqa: E402
from hmr_ros.perception.errors import PerceptionError  # noqa: E402
from hmr_ros.perception.person import (  # noqa: E402
    HandsAndFace, Person, PersonBox, PersonKeypoints)

pytestmark = pytest.mark.ros

REALS = st.floats(-1e4, 1e4, width=32)


def floats(*shape):
    return hnp.arrays(np.float32, shape, elements=REALS)


@st.composite
def people(draw):
    return Person(
        track_id=draw(st.text('abcp0123456789', max_size=8)),
        score=float(draw(st.floats(0, 1, width=32))), box=draw(floats(4)),
        crop_transform=draw(floats(2, 3)), global_orient=draw(floats(3)),
        body_pose=draw(floats(23, 3)), betas=draw(floats(10)), transl=draw(floats(3)),
        joints3d=draw(floats(24, 3)), joints2d=draw(floats(24, 2)),
        joint_confidence=draw(floats(24)),
        feature=draw(hnp.arrays(np.float32, st.integers(0, 9), elements=REALS)),
        hands_and_face=draw(st.none() | st.builds(
            HandsAndFace, floats(2, 15, 3), floats(3), floats(10), floats(2, 20, 3),
            floats(2, 20, 2))))


@settings(max_examples=25, deadline=None)
@given(people())
def test_a_person_survives_the_message(person):
    back = conversions.person_from_message(conversions.person_to_message(person))
    for field in fields(Person):
        if field.name != 'hands_and_face':
            np.testing.assert_array_equal(getattr(back, field.name), getattr(person, field.name))
    assert (back.hands_and_face is None) == (person.hands_and_face is None)
    if person.hands_and_face is not None:
        for field in fields(HandsAndFace):
            np.testing.assert_array_equal(getattr(back.hands_and_face, field.name),
                                          getattr(person.hands_and_face, field.name))


@pytest.mark.parametrize(('name', 'count'), [('jaw_pose', 2), ('expression', 0),
                                             ('left_hand_pose', 44)])
def test_half_a_hand_is_refused_by_name(name, count):
    hands = HandsAndFace(*(np.zeros(shape, np.float32) for shape in (
        (2, 15, 3), 3, 10, (2, 20, 3), (2, 20, 2))))
    message = conversions.person_to_message(Person(
        'p1', 1.0, np.zeros(4), np.zeros((2, 3)), np.zeros(3), np.zeros((23, 3)), np.zeros(10),
        np.zeros(3), np.zeros((24, 3)), np.zeros((24, 2)), np.zeros(24), hands_and_face=hands))
    setattr(message, name, array.array('f', [0.0] * count))
    with pytest.raises(NodeError, match=f"'p1' has {count} numbers of {name}"):
        conversions.person_from_message(message)


@settings(max_examples=20, deadline=None)
@given(st.lists(floats(4), max_size=4), st.floats(0, 1, width=32))
def test_boxes_survive_the_message(boxes, score):
    sent = [PersonBox(box, score, f'p{i}') for i, box in enumerate(boxes)]
    message = conversions.boxes_to_message(sent, Header(frame_id='cam'), (640, 480))
    assert (message.header.frame_id, message.image_width) == ('cam', 640)
    for one, other in zip(sent, conversions.boxes_from_message(message), strict=True):
        np.testing.assert_array_equal(one.box, other.box)
        assert (one.score, one.track_id) == (other.score, other.track_id)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(sorted(conversions.ENCODINGS)), st.integers(1, 9), st.integers(1, 9),
       st.integers(0, 7), st.booleans())
def test_pixels_are_viewed_through_any_step_without_a_copy(encoding, height, width, pad, big):
    channels, used, order = conversions.ENCODINGS[encoding]
    step = width * channels + pad
    data = np.random.default_rng(0).integers(0, 256, (height, step), np.uint8)
    message = Image(height=height, width=width, encoding=encoding, step=step, is_bigendian=big,
                    data=array.array('B', data.tobytes()))
    view, given_order = conversions.image_view(message)
    expected = data[:, :width * channels].reshape(height, width, channels)[..., :used]
    np.testing.assert_array_equal(view, expected[..., 0] if used == 1 else expected)
    assert given_order == order
    message.data[0] ^= 255
    assert view.flat[0] == data[0, 0] ^ 255, 'the view must share memory with the message'
    bgr = conversions.bgr_pixels(message)
    assert bgr.shape == (height, width, 3) and bgr.flags.c_contiguous


def good_image(**changes):
    values = {'height': 4, 'width': 5, 'encoding': 'rgb8', 'step': 15,
              'data': array.array('B', bytes(60)), **changes}
    return Image(**values)


@pytest.mark.parametrize('message, words', [
    (good_image(encoding='yuv422'), ['yuv422', 'rgb8', 'mono8', 'convert']),
    (good_image(height=0), ['5 x 0', 'camera driver']),
    (good_image(step=14), ['step 14', 'at least 15']),
    (good_image(data=array.array('B', bytes(59))), ['59 bytes', 'publisher']),
])
def test_images_that_contradict_themselves_are_refused(message, words):
    with pytest.raises(NodeError) as error:
        conversions.image_view(message)
    assert all(word in str(error.value) for word in words)


def test_the_last_row_needs_no_padding():
    message = good_image(step=16, data=array.array('B', bytes(3 * 16 + 15)))
    assert conversions.image_view(message)[0].shape == (4, 5, 3)


def test_an_image_survives_the_message_raw_and_compressed():
    pixels = np.random.default_rng(1).integers(0, 256, (6, 7, 3), np.uint8)
    raw = conversions.image_message(pixels, Header())
    np.testing.assert_array_equal(conversions.bgr_pixels(raw), pixels)
    png = CompressedImage(format='png', data=cv2.imencode('.png', pixels)[1].tobytes())
    np.testing.assert_array_equal(conversions.bgr_pixels(png), pixels)


@pytest.mark.parametrize('data', [b'', b'not a picture'])
def test_a_damaged_compressed_image_is_refused(data):
    with pytest.raises(NodeError, match='JPEG or PNG'):
        conversions.pixels_of(CompressedImage(format='jpeg', data=data))


def info(**changes):
    values = {'width': 64, 'height': 48, 'k': [50., 0., 32., 0., 51., 24., 0., 0., 1.],
              'p': [60., 0., 31., 0., 0., 61., 23., 0., 0., 0., 1., 0.], **changes}
    return CameraInfo(**values)


def test_camera_info_gives_k_for_raw_and_p_for_rectified_images():
    assert conversions.camera_from_info(info(), False) == Camera(50., 51., 32., 24., 64, 48)
    assert conversions.camera_from_info(info(), True) == Camera(60., 61., 31., 23., 64, 48)
    assert conversions.camera_from_info(CameraInfo(), False) is None


def test_broken_camera_infos_are_refused():
    with pytest.raises(PerceptionError, match='Calibrate'):
        conversions.camera_from_info(info(k=[float('nan')] * 9), False)
    with pytest.raises(NodeError, match='width and height'):
        conversions.camera_from_info(info(width=0), False)


def test_the_camera_survives_the_message():
    camera = Camera(500.5, 501.25, 320.0, 240.0, 640, 480, CameraSource.ASSUMED)
    message = SmplArray()
    conversions.camera_to_message(camera, message)
    assert conversions.camera_from_message(message) == camera
    for source in CameraSource:
        assert getattr(SmplArray, f'CAMERA_{source.name}') == source


@st.composite
def keypoints(draw):
    return PersonKeypoints(
        draw(st.text('abcp0123456789', max_size=8)), float(draw(st.floats(0, 1, width=32))),
        draw(floats(4)),
        draw(hnp.arrays(np.float32, (17, 2), elements=REALS | st.just(np.nan))),
        draw(hnp.arrays(np.float32, 17, elements=st.floats(0, 1, width=32))))


@settings(max_examples=25, deadline=None)
@given(st.lists(keypoints(), max_size=3), st.integers(0, 2 ** 32 - 1), st.integers(0, 9000))
def test_keypoints_survive_the_message(people, width, height):
    engine = SimpleNamespace(name='pose', sha256='a' * 64)
    message = conversions.keypoints_to_message(
        people, Header(frame_id='cam'), (width, height), engine)
    message = deserialize_message(serialize_message(message), Keypoints2DArray)
    assert (message.header.frame_id, message.image_width, message.image_height) == (
        'cam', width, height)
    assert (message.engine, message.engine_sha256) == ('pose', 'a' * 64)
    assert message.joint_set == Keypoints2DArray.JOINT_SET_COCO17
    back = conversions.keypoints_from_message(message)
    for one, other in zip(people, back, strict=True):
        for field in fields(PersonKeypoints):
            np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name))
        assert other.keypoints.dtype == other.confidence.dtype == other.box.dtype == np.float32


@pytest.mark.parametrize('joint_set, numbers, words', [
    (7, (34, 17), ['joint_set', '7']), (0, (33, 17), ['33', '34']), (0, (34, 16), ['16', '17']),
    (1, (34, 17), ['48 and 24'])])
def test_keypoints_that_do_not_fit_their_joint_set_are_refused(joint_set, numbers, words):
    of_points, of_confidence = (array.array('f', [0.0] * count) for count in numbers)
    message = Keypoints2DArray(joint_set=joint_set, people=[
        Keypoints2D(track_id='p1', keypoints=of_points, confidence=of_confidence)])
    with pytest.raises(NodeError) as error:
        conversions.keypoints_from_message(message)
    assert all(word in str(error.value) for word in [*words, 'publisher']), error.value


def test_keypoints_of_the_other_joint_set_are_read():
    message = Keypoints2DArray(joint_set=Keypoints2DArray.JOINT_SET_SMPL24, people=[Keypoints2D(
        keypoints=array.array('f', range(48)), confidence=array.array('f', [0.5] * 24))])
    person, = conversions.keypoints_from_message(message)
    np.testing.assert_array_equal(person.keypoints, np.arange(48).reshape(24, 2))
