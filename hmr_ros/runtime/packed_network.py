# SPDX-License-Identifier: Apache-2.0
"""The whole-body network on packed bits, read from a file (bidrn sheet)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hmr_ros.runtime.packed_bits import PackedKernel, words_of
from hmr_ros.runtime.packed_boxes import PackedBoxNet, RaisedMaps, ReadMaps
from hmr_ros.runtime.packed_crops import decode_boxes, roi_align
from hmr_ros.runtime.packed_encoder import PackedBlock, PackedEncoder, Projection, Stem
from hmr_ros.runtime.packed_file import OUTPUTS, PackedFile
from hmr_ros.runtime.packed_heads import (
    described, Line, reduced, restored, soft_argmax, translation)
from hmr_ros.runtime.packed_layers import PackedDeconvolution, PackedLayer, Workplace

PARTS = ('lhand', 'rhand', 'face')


class PackedWholeBody:
    """
    Image crops `(N, 3, H, W)` float32, RGB 0 to 1, to the named outputs of engines of bidrn.

    Raises EngineError when an array of the file is missing or of another shape than its header
    says.
    """

    def __init__(self, file: PackedFile, place: Workplace) -> None:
        self._place = place
        self.image: tuple[int, int] = tuple(file.option('image'))
        self._body: tuple[int, int] = tuple(file.option('body'))
        self._hand, self._face = file.option('hand'), file.option('face')
        self._depth, self._knuckles = file.option('depth'), file.option('knuckles')
        self._farthest, self._growth = file.option('farthest'), file.option('growth')
        self._encoders = {
            name: read_encoder(file, name, blocks)
            for name, blocks in file.option('encoders').items()}
        self._lines = {
            name: Line(file.numbers(f'{name}.weight', *shape),
                       file.numbers(f'{name}.bias', shape[1]))
            for name, shape in file.option('lines').items()}
        self._boxes = _box_net(file, self._lines)

    def __call__(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Compute it."""
        feature = self.encode('body', self._shrunk(image))
        joints, likely = soft_argmax(self._line('body_position_net', feature), self._depth)
        centres, sizes = self._boxes(self._place, feature, likely)
        cells = feature.shape[1:3]
        boxes = decode_boxes(
            centres, sizes, (self.image[1] / cells[1], self.image[0] / cells[0]), self._growth)
        hands = self.encode('hand', self._hand_crops(image, boxes))
        hand_joints, hand_pose = self.read_hands(hands)
        faces = np.stack([roi_align(*pair, self._face) for pair in zip(image, boxes[:, 2])])
        found = {
            **self.read_body(feature, joints, hands, hand_joints),
            **self.read_face(self.encode('face', faces)),
            'left_hand': hand_pose[:, 0], 'right_hand': hand_pose[:, 1], 'body_joints': joints,
            'hand_joints': hand_joints, 'centres': centres, 'sizes': sizes, 'boxes': boxes}
        return {name: found[name] for name in OUTPUTS}

    def close(self) -> None:
        """End the threads."""
        self._place.close()

    def encode(self, name: str, image: np.ndarray) -> np.ndarray:
        """Last map `(N, h, w, C)` of the encoder of body, hand or face; image `(N, 3, H, W)`."""
        return self._encoders[name](self._place, image)

    def _line(self, name: str, values: np.ndarray) -> np.ndarray:
        return self._lines[name](values)

    def _shrunk(self, image: np.ndarray) -> np.ndarray:
        """Every second pixel, or as many as the body's encoder leaves out."""
        step = self.image[0] // self._body[0]
        return image[:, :, ::step, ::step]

    def _hand_crops(self, image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """Left hands, mirrored, then right ones."""
        left, right = ([roi_align(*pair, self._hand) for pair in zip(image, boxes[:, row])]
                       for row in (0, 1))
        return np.stack([crop[:, :, ::-1] for crop in left] + right)

    def read_hands(self, hands: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Joints `(N, 2, 20, 3)` and rotations `(N, 2, 90)` of maps `(2N, H, W, C)` of hands."""
        joints, _ = soft_argmax(self._line('hand_position_net', hands), self._depth)
        maps = reduced(self._lines['hand_rotation_net.hand_conv'], hands)
        pose = self._line('hand_rotation_net.hand_pose_out', described(maps, joints))
        return restored(joints, pose, hands.shape[2])

    def read_body(
            self, feature: np.ndarray, joints: np.ndarray, hands: np.ndarray,
            hand_joints: np.ndarray) -> dict[str, np.ndarray]:
        """What the body's map `(N, H, W, C)` and those of hands say of the body."""
        half, name = len(feature), 'body_rotation_net'
        knuckles = hand_joints[:, :, self._knuckles]
        maps = {'body': (feature, joints), 'lhand': (hands[:half, :, ::-1], knuckles[:, 0]),
                'rhand': (hands[half:], knuckles[:, 1])}
        known = np.concatenate([
            described(reduced(self._lines[f'{name}.{part}_conv'], seen), where)
            for part, (seen, where) in maps.items()], 1)
        mean = feature.mean((1, 2))
        return {
            'root': self._line(f'{name}.root_pose_out', known),
            'body_pose': self._line(f'{name}.body_pose_out', known),
            'shape': self._line(f'{name}.shape_out', mean),
            'transl': translation(self._line(f'{name}.cam_out', mean), self._farthest)}

    def read_face(self, feature: np.ndarray) -> dict[str, np.ndarray]:
        """What the face's map says."""
        mean = feature.mean((1, 2))
        return {'expression': self._line('face_regressor.expr_out', mean),
                'jaw': self._line('face_regressor.jaw_pose_out', mean)}


def read_encoder(file: PackedFile, name: str, blocks: Sequence[Any]) -> PackedEncoder:
    """Read an encoder; `blocks` has channels in and out, taps of a side and stride of layers."""
    width = blocks[0][0][0]
    stem = Stem(file.numbers(f'{name}.stem.weight', 147, width),
                file.numbers(f'{name}.stem.bias', width))
    return PackedEncoder(stem, tuple(
        _block(file, f'{name}.{number}', layers) for number, layers in enumerate(blocks)))


def _block(file: PackedFile, name: str, layers: Sequence[Sequence[int]]) -> PackedBlock:
    entered, left = layers[0][0], layers[-1][1]
    stride = max(layer[3] for layer in layers)
    projection = None
    if entered != left or stride > 1:
        projection = Projection(file.numbers(f'{name}.shortcut.weight', entered, left), stride)
    return PackedBlock(tuple(
        _layer(file, f'{name}.{number}', *layer) for number, layer in enumerate(layers)),
        projection)


def _layer(
        file: PackedFile, name: str, entered: int, left: int, side: int,
        stride: int) -> PackedLayer:
    branches = max(1, entered // left)
    channels = entered // branches
    bits = file.words(f'{name}.bits', left, branches, side * side, words_of(channels))
    return PackedLayer.of(
        PackedKernel.of(bits, channels, (side, side)),
        file.numbers(f'{name}.bend', branches, 5, left), file.numbers(f'{name}.keep', left), stride)


def _box_net(file: PackedFile, lines: dict[str, Line]) -> PackedBoxNet:
    width, third = file.option('box_width'), file.option('box_deconv3')
    entered = [file.option('box_channels'), width, width]
    deconvolutions = [
        PackedDeconvolution.of(
            file.words(f'box_net.{number}.bits', width, 1, 16, words_of(channels)), channels,
            file.numbers(f'box_net.{number}.bend', 5, width))
        for number, channels in enumerate(entered[:3 if third == 'binary' else 2])]
    centre = lines['box_net.bbox_center']
    maps: ReadMaps | RaisedMaps = ReadMaps(centre)
    if third == 'full':
        maps = RaisedMaps(
            file.numbers('box_net.2.weight', 4, 4, width, width),
            file.numbers('box_net.2.scale', width), file.numbers('box_net.2.offset', width), centre)
    sizes = [
        (PackedLayer.of(
            PackedKernel.of(file.words(f'box_net.{part}.bits', width, 1, 1, words_of(width)),
                            width, (1, 1)),
            file.numbers(f'box_net.{part}.bend', 1, 5, width), np.zeros(width, np.float32)),
         lines[f'box_net.{part}_size']) for part in PARTS]
    return PackedBoxNet(deconvolutions, maps, sizes, 4 if third == 'none' else 8)
