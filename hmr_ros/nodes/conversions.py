# SPDX-License-Identifier: Apache-2.0
"""Between ROS messages and what perception works with."""

from __future__ import annotations

import array
from collections.abc import Sequence
import sys
from typing import Protocol

import cv2
import numpy as np
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from hmr_ros.body.model import SkinnedModel
from hmr_ros.msg import Keypoints2D, Keypoints2DArray, PersonBoxArray, SmplArray, SmplPerson
from hmr_ros.msg import PersonBox as PersonBoxMsg
from hmr_ros.nodes.errors import NodeError
from hmr_ros.perception.camera import Camera, CameraSource
from hmr_ros.perception.person import HandsAndFace, Person, PersonBox, PersonKeypoints

# Encoding: channels in the message, channels that are used, their order.
ENCODINGS = {
    'rgb8': (3, 3, 'rgb'),
    'bgr8': (3, 3, 'bgr'),
    'rgba8': (4, 3, 'rgb'),
    'bgra8': (4, 3, 'bgr'),
    'mono8': (1, 1, 'gray'),
}
#: numbers per person that a whole-body network adds.
_HANDS_AND_FACE = {
    'left_hand_pose': 45, 'right_hand_pose': 45, 'jaw_pose': 3, 'expression': 10,
    'hand_joints3d': 120, 'hand_joints2d': 80}
# Keypoints per person of each joint set.
JOINT_COUNTS = {Keypoints2DArray.JOINT_SET_COCO17: 17, Keypoints2DArray.JOINT_SET_SMPL24: 24}


class EngineFacts(Protocol):
    """What a message says about the engine that made it."""

    name: str
    sha256: str


def image_view(message: Image) -> tuple[np.ndarray, str]:
    """
    View the pixels of an image message without copying them.

    Returns uint8 `(H, W, 3)` and 'rgb' or 'bgr', or `(H, W)` and 'gray'. Row padding and an alpha
    channel are left out by strides, so rows may not be contiguous. `is_bigendian` means nothing
    for 8-bit channels. Raises NodeError when encoding, size, step and data do not fit together.
    """
    if message.encoding not in ENCODINGS:
        raise NodeError(
            f'image has encoding {message.encoding!r}; accepted: {", ".join(ENCODINGS)}. Let the '
            'camera driver or an image_proc node convert it')
    channels, used, order = ENCODINGS[message.encoding]
    height, width, step = message.height, message.width, message.step
    if not height or not width:
        raise NodeError(f'image is {width} x {height} pixels; check the camera driver')
    if step < width * channels or len(message.data) < (height - 1) * step + width * channels:
        raise NodeError(
            f'image of {width} x {height} {message.encoding} has step {step} and '
            f'{len(message.data)} bytes of data; expected a step of at least {width * channels} '
            f'and height x step bytes. The publisher fills the message wrongly')
    view = np.ndarray((height, width, channels), np.uint8, buffer=message.data,
                      strides=(step, channels, 1))
    return (view[..., 0] if used == 1 else view[..., :used]), order


def pixels_of(message: Image | CompressedImage) -> tuple[np.ndarray, str]:
    """
    Return the pixels of a raw or compressed image as `image_view` does.

    Raises NodeError when the message cannot be read.
    """
    if isinstance(message, Image):
        return image_view(message)
    data = np.frombuffer(message.data, np.uint8)
    pixels = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
    if pixels is None:
        raise NodeError(
            f'compressed image of {len(data)} bytes and format {message.format!r} cannot be '
            'decoded; expected JPEG or PNG')
    return pixels, 'bgr'


def bgr_pixels(message: Image | CompressedImage) -> np.ndarray:
    """Return contiguous uint8 `(H, W, 3)` in BGR order; copied where the message differs."""
    view, order = pixels_of(message)
    if order == 'gray':
        return cv2.cvtColor(np.ascontiguousarray(view), cv2.COLOR_GRAY2BGR)
    return np.ascontiguousarray(view if order == 'bgr' else view[..., ::-1])


def image_message(pixels_bgr: np.ndarray, header: Header) -> Image:
    """Wrap uint8 `(H, W, 3)` BGR pixels in a message of encoding bgr8."""
    height, width = pixels_bgr.shape[:2]
    message = Image(header=header, height=height, width=width, encoding='bgr8', step=3 * width,
                    is_bigendian=sys.byteorder == 'big')
    message.data = array.array('B', np.ascontiguousarray(pixels_bgr).tobytes())
    return message


def camera_from_info(message: CameraInfo, rectified: bool) -> Camera | None:
    """
    Read a calibration; None when the camera says that it is not calibrated (a zero matrix).

    Takes the projection matrix P of rectified images, else K. Raises NodeError when the message
    gives no image size, and PerceptionError when numbers are not finite or focal lengths not
    positive.
    """
    p, k = message.p, message.k
    fx, fy, cx, cy = (p[0], p[5], p[2], p[6]) if rectified else (k[0], k[4], k[2], k[5])
    if fx == 0:
        return None
    if not message.width or not message.height:
        raise NodeError(f'camera_info is for {message.width} x {message.height} pixels; fill its '
                        'width and height')
    return Camera(float(fx), float(fy), float(cx), float(cy), message.width, message.height,
                  CameraSource.CALIBRATED)


def boxes_to_message(
        boxes: Sequence[PersonBox], header: Header, size: tuple[int, int]) -> PersonBoxArray:
    """Boxes of an image of `size` (width, height)."""
    return PersonBoxArray(
        header=header, image_width=size[0], image_height=size[1],
        boxes=[PersonBoxMsg(track_id=b.track_id, score=float(b.score),
                            box=np.asarray(b.box, np.float32)) for b in boxes])


def boxes_from_message(message: PersonBoxArray) -> list[PersonBox]:
    """Read boxes, float32 `(4,)` each."""
    return [PersonBox(np.array(b.box, np.float32), b.score, b.track_id) for b in message.boxes]


def person_to_message(person: Person) -> SmplPerson:
    """Flatten a person's arrays into a message."""
    def flat(values: np.ndarray) -> np.ndarray:
        return np.asarray(values, np.float32).reshape(-1)

    message = SmplPerson(
        track_id=person.track_id, score=float(person.score), box=flat(person.box),
        crop_transform=flat(person.crop_transform), global_orient=flat(person.global_orient),
        body_pose=flat(person.body_pose), betas=flat(person.betas), transl=flat(person.transl),
        joints3d=flat(person.joints3d), joints2d=flat(person.joints2d),
        joint_confidence=flat(person.joint_confidence),
        feature=array.array('f', flat(person.feature).tobytes()))
    if person.hands_and_face is not None:
        _fill_hands_and_face(message, person.hands_and_face)
    return message


def _fill_hands_and_face(message: SmplPerson, found: HandsAndFace) -> None:
    left, right = found.hand_pose
    for name, values in (
            ('left_hand_pose', left), ('right_hand_pose', right), ('jaw_pose', found.jaw_pose),
            ('expression', found.expression), ('hand_joints3d', found.hand_joints3d),
            ('hand_joints2d', found.hand_joints2d)):
        setattr(message, name, array.array('f', np.asarray(values, np.float32).tobytes()))


def _hands_and_face(message: SmplPerson) -> HandsAndFace | None:
    """Read what a whole-body network added; None where it is empty, NodeError where it is odd."""
    lengths = {name: len(getattr(message, name)) for name in _HANDS_AND_FACE}
    if not any(lengths.values()):
        return None
    wrong = [name for name, length in lengths.items() if length != _HANDS_AND_FACE[name]]
    if wrong:
        raise NodeError(
            f'person {message.track_id!r} has {lengths[wrong[0]]} numbers of {wrong[0]}; expected '
            f'{_HANDS_AND_FACE[wrong[0]]}, or none of all of {", ".join(_HANDS_AND_FACE)}')
    values = {name: np.array(getattr(message, name), np.float32) for name in lengths}
    return HandsAndFace(
        np.stack([values['left_hand_pose'], values['right_hand_pose']]).reshape(2, 15, 3),
        values['jaw_pose'], values['expression'], values['hand_joints3d'].reshape(2, 20, 3),
        values['hand_joints2d'].reshape(2, 20, 2))


def person_from_message(message: SmplPerson) -> Person:
    """Give a message's arrays their shapes; NodeError where those of hands and face have others."""
    def shaped(values: Sequence[float], *shape: int) -> np.ndarray:
        return np.array(values, np.float32).reshape(shape)

    return Person(
        track_id=message.track_id, score=message.score, box=shaped(message.box, 4),
        crop_transform=shaped(message.crop_transform, 2, 3),
        global_orient=shaped(message.global_orient, 3),
        body_pose=shaped(message.body_pose, 23, 3), betas=shaped(message.betas, 10),
        transl=shaped(message.transl, 3), joints3d=shaped(message.joints3d, 24, 3),
        joints2d=shaped(message.joints2d, 24, 2),
        joint_confidence=shaped(message.joint_confidence, 24),
        feature=shaped(message.feature, -1), hands_and_face=_hands_and_face(message))


def check_body(message: SmplArray, body: SkinnedModel, topic: str) -> None:
    """Raise NodeError unless `body` is the one of the people of a message on `topic`."""
    if message.body_model_sha256 != body.sha256:
        whole = message.layout == SmplArray.LAYOUT_SMPLX
        raise NodeError(
            f'people on {topic} have the body model {message.body_model} '
            f'({message.body_model_sha256[:12]}), this node has {body.name} ({body.sha256[:12]}); '
            f'set {"whole_body_model" if whole else "body_model"} alike')


def people_from_message(message: SmplArray) -> list[Person]:
    """Read all people; NodeError where the layout says other than their hands and faces do."""
    people = [person_from_message(person) for person in message.people]
    whole = message.layout == SmplArray.LAYOUT_SMPLX
    for person in people:
        if (person.hands_and_face is not None) != whole:
            raise NodeError(
                f'person {person.track_id!r} comes {"without" if whole else "with"} hands and '
                f'face, but layout is {"LAYOUT_SMPLX" if whole else "LAYOUT_SMPL"}. The publisher '
                'fills the message wrongly')
    return people


def keypoints_to_message(
        people: Sequence[PersonKeypoints], header: Header, size: tuple[int, int],
        engine: EngineFacts) -> Keypoints2DArray:
    """COCO's keypoints of an image of `size` (width, height), found by `engine`."""
    def flat(values: np.ndarray) -> array.array:
        return array.array('f', np.asarray(values, np.float32).tobytes())

    return Keypoints2DArray(
        header=header, joint_set=Keypoints2DArray.JOINT_SET_COCO17, engine=engine.name,
        engine_sha256=engine.sha256, image_width=size[0], image_height=size[1],
        people=[Keypoints2D(
            track_id=p.track_id, score=float(p.score), box=np.asarray(p.box, np.float32),
            keypoints=flat(p.keypoints), confidence=flat(p.confidence)) for p in people])


def keypoints_from_message(message: Keypoints2DArray) -> list[PersonKeypoints]:
    """
    Read the keypoints of people, as many each as `joint_set` has.

    Raises NodeError when the joint set is unknown, or their numbers do not fit it.
    """
    count = JOINT_COUNTS.get(message.joint_set)
    if count is None:
        raise NodeError(f'joint_set of keypoints is {message.joint_set}; expected one of '
                        'Keypoints2DArray.JOINT_SET_*. The publisher fills the message wrongly')
    people = []
    for p in message.people:
        if (len(p.keypoints), len(p.confidence)) != (2 * count, count):
            raise NodeError(
                f'person {p.track_id!r} has {len(p.keypoints)} numbers of keypoints and '
                f'{len(p.confidence)} of confidence; joint set {message.joint_set} has '
                f'{2 * count} and {count}. The publisher fills the message wrongly')
        people.append(PersonKeypoints(
            p.track_id, p.score, np.array(p.box, np.float32),
            np.array(p.keypoints, np.float32).reshape(count, 2),
            np.array(p.confidence, np.float32)))
    return people


def camera_to_message(camera: Camera, message: SmplArray) -> None:
    """Write the camera that was used into a SmplArray."""
    message.camera_source = int(camera.source)
    message.camera = np.float32([camera.fx, camera.fy, camera.cx, camera.cy])
    message.image_width, message.image_height = camera.width, camera.height


def camera_from_message(message: SmplArray) -> Camera:
    """Read the camera that was used. Raises PerceptionError or NodeError when it is not usable."""
    if message.camera_source not in list(CameraSource):
        raise NodeError(f'camera_source is {message.camera_source}; expected one of '
                        'SmplArray.CAMERA_*. The publisher fills the message wrongly')
    fx, fy, cx, cy = (float(v) for v in message.camera)
    return Camera(fx, fy, cx, cy, message.image_width, message.image_height,
                  CameraSource(message.camera_source))
