# SPDX-License-Identifier: Apache-2.0
"""Pictures of people with their meshes: shaded, translucent, near over far, numpy and OpenCV."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence
import zlib

import cv2
import numpy as np

from hmr_ros.perception.camera import Camera
from hmr_ros.perception.crops import check_image
from hmr_ros.perception.painting import facing, paint
from hmr_ros.perception.person import PersonKeypoints
from hmr_ros.perception.skeleton import HAND_BONES, PARENTS

# Every person is drawn into a buffer with about this longer side, so that the cost is the same
# for near and far people.
_BUFFER_PX = 256
_MOST_ZOOM = 3.0
_NEAREST_M = 0.05
# Beyond, OpenCV's whole numbers overflow.
_FARTHEST_PX = 1e5
_DOT_PX = 2
_LIGHT = np.float32([-0.35, -0.6, -0.72])
_AMBIENT = 0.42
_JOINT_PARENTS = PARENTS[:24]


@dataclass(frozen=True)
class OverlayStyle:
    """
    How people look.

    opacity   of the mesh, 0 to 1
    skeleton  thickness of the bones in pixels; 0 draws none
    label     height of the id's letters in pixels; 0 draws none
    box       thickness of the box in pixels; 0 draws none
    """

    opacity: float = 0.78
    skeleton: int = 1
    label: int = 11
    box: int = 0


def track_color(track_id: str) -> tuple[int, int, int]:
    """Bright BGR colour of a track, always the same for one id."""
    digits = ''.join(letter for letter in track_id if letter.isdigit())
    number = int(digits) if digits else zlib.crc32(track_id.encode())
    # Steps of the golden angle keep neighbouring ids apart.
    hue = int(number * 0.381966 * 180) % 180
    pixel = cv2.cvtColor(np.uint8([[[hue, 150, 255]]]), cv2.COLOR_HSV2BGR)[0, 0]
    return int(pixel[0]), int(pixel[1]), int(pixel[2])


class OverlayRenderer:
    """Draws people of one mesh topology into images."""

    def __init__(self, faces: np.ndarray, style: OverlayStyle = OverlayStyle()) -> None:
        """`faces` `(F, 3)`: vertex indices, counter-clockwise seen from outside."""
        self._faces = np.ascontiguousarray(faces, np.int64)
        self._style = style
        self._columns = np.ascontiguousarray(self._faces.T)
        corners = self._faces.ravel()
        self._by_vertex = np.argsort(corners, kind='stable') // 3
        self._used, starts = np.unique(np.sort(corners), return_index=True)
        self._starts = starts

    def draw(
            self, image_bgr: np.ndarray, camera: Camera, vertices: np.ndarray,
            track_ids: Sequence[str], joints2d: np.ndarray, boxes: np.ndarray,
            hands2d: Sequence[np.ndarray] = ()) -> np.ndarray:
        """
        Return a new image, uint8 `(H, W, 3)` BGR, with the people drawn into `image_bgr`.

        vertices (N, V, 3)  metres in the optical frame; people with NaN are left out
        joints2d (N, 24, 2) pixels, NaN where unknown
        boxes    (N, 4)     x0, y0, x1, y1 in pixels; labels stand above them
        hands2d  N of (2, 20, 2) pixels, as HandsAndFace has them, or none at all

        Raises PerceptionError when the image is not of that kind.
        """
        check_image(image_bgr, 'bgr')
        image = image_bgr.copy()
        height, width = image.shape[:2]
        if (camera.width, camera.height) != (width, height):
            camera = camera.resized(width, height)
        vertices = np.asarray(vertices, np.float32)
        depth = vertices[..., 2].mean(axis=1) if len(vertices) else np.zeros(0)
        for i in np.argsort(-depth, kind='stable'):
            if np.isfinite(depth[i]):
                self._draw_mesh(image, camera, vertices[i], track_color(track_ids[i]))
        for i, track_id in enumerate(track_ids):
            self._draw_marks(image, track_id, joints2d[i], boxes[i])
        for track_id, hands in zip(track_ids, hands2d):
            self._draw_hands(image, track_id, hands)
        return image

    def _draw_mesh(
            self, image: np.ndarray, camera: Camera, vertices: np.ndarray,
            color: tuple[int, int, int]) -> None:
        ahead = vertices[:, 2] > _NEAREST_M
        pixels = camera.project(np.where(ahead[:, None], vertices, np.float32([0, 0, 1])))
        if not ahead.any():
            return
        size = np.array([image.shape[1], image.shape[0]])
        low = np.maximum(np.floor(pixels[ahead].min(axis=0)) - 1, 0).astype(int)
        high = np.minimum(np.ceil(pixels[ahead].max(axis=0)) + 2, size).astype(int)
        if np.any(high <= low):
            return
        zoom = min(_BUFFER_PX / (high - low).max(), _MOST_ZOOM)
        shape = tuple(np.maximum(np.round((high - low)[::-1] * zoom), 1).astype(int))
        scale = np.float32(shape[::-1]) / (high - low)
        corners = ((pixels - low) * scale).astype(np.float32)
        shade, mask = self._fill(corners, vertices, ahead, shape)
        region = image[low[1]:high[1], low[0]:high[0]]
        _blend(region, shade, mask, color, self._style.opacity)

    def _fill(
            self, corners: np.ndarray, vertices: np.ndarray, ahead: np.ndarray,
            shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Paint the triangles from far to near: shade and cover, float32 `shape`, 0 to 1."""
        kept, spans = facing(corners, self._columns, shape)
        kept &= ahead[self._columns].all(axis=0)
        shade, = paint(corners, vertices[:, 2], self._faces[kept], spans[kept],
                       (self._shades(vertices),), shape)
        return _close_holes(shade)

    def _shades(self, vertices: np.ndarray) -> np.ndarray:
        """Brightness of each vertex, `(V,)`, from its normal."""
        a, b, c = vertices[self._columns]
        normals = np.add.reduceat(np.cross(b - a, c - a)[self._by_vertex], self._starts, axis=0)
        length = np.linalg.norm(normals, axis=1, keepdims=True)
        normals /= np.where(length > 0, length, 1)
        lit = np.full(len(vertices), _AMBIENT, np.float32)
        lit[self._used] += (1 - _AMBIENT) * np.maximum(normals @ _LIGHT, 0)
        lit[self._used] += 0.12 * np.maximum(normals @ np.float32([0.9, 0.2, -0.3]), 0)
        return np.minimum(lit, 1)

    def _draw_marks(
            self, image: np.ndarray, track_id: str, joints: np.ndarray, box: np.ndarray) -> None:
        color, pale = track_color(track_id), _pale(track_id)
        if self._style.skeleton:
            for joint in range(1, 24):
                _line(image, joints[[joint, _JOINT_PARENTS[joint]]], pale, self._style.skeleton)
        if not np.all(np.isfinite(box)) or np.abs(box).max() >= _FARTHEST_PX:
            return
        x0, y0, x1, y1 = (int(value) for value in np.round(box))
        if self._style.box:
            cv2.rectangle(image, (x0, y0), (x1, y1), color, self._style.box, cv2.LINE_AA)
        if self._style.label:
            _write(image, track_id, x0, y0 - 4, self._style.label, color)

    def _draw_hands(self, image: np.ndarray, track_id: str, hands: np.ndarray) -> None:
        if self._style.skeleton:
            for hand in hands:
                for bone in HAND_BONES:
                    _line(image, hand[bone], _pale(track_id), self._style.skeleton)


def _pale(track_id: str) -> tuple[int, int, int]:
    blue, green, red = (int(0.4 * value + 0.6 * 255) for value in track_color(track_id))
    return blue, green, red


def _close_holes(shade: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fill single pixels that no sample hit."""
    kernel = np.ones((3, 3), np.uint8)
    hit = (shade > 0).astype(np.uint8)
    closed = cv2.morphologyEx(hit, cv2.MORPH_CLOSE, kernel)
    # Shade is spread one pixel outwards too, so that scaling at the rim does not mix in black.
    spread = cv2.dilate(shade, kernel)
    return np.where(hit > 0, shade, spread), closed.astype(np.float32)


def _blend(
        region: np.ndarray, shade: np.ndarray, mask: np.ndarray, color: tuple[int, int, int],
        opacity: float) -> None:
    size = (region.shape[1], region.shape[0])
    method = cv2.INTER_AREA if shade.shape[0] > size[1] else cv2.INTER_LINEAR
    # A softened rim, sharpened again after scaling, is smooth where the buffer was enlarged.
    cover = cv2.resize(cv2.GaussianBlur(mask, (3, 3), 0.8), size, interpolation=method)[..., None]
    steep = 1.5 * max(size[1] / shade.shape[0], 1.0)
    cover = opacity * np.clip((cover - 0.5) * steep + 0.5, 0, 1)
    shade = cv2.resize(shade, size, interpolation=method)[..., None]
    region[:] = np.round(region * (1 - cover) + shade * np.float32(color) * cover)


def _write(
        image: np.ndarray, text: str, x: int, y: int, tall: int,
        color: tuple[int, int, int]) -> None:
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, tall / 22
    place = (max(x, 0), max(y, tall))
    for tone, thickness in (((0, 0, 0), 3), (color, 1)):
        cv2.putText(image, text, place, font, scale, tone, thickness, cv2.LINE_AA)


def draw_keypoints(
        image_bgr: np.ndarray, people: Sequence[PersonKeypoints],
        limbs: Sequence[tuple[int, int]]) -> np.ndarray:
    """
    Return a new image, uint8 `(H, W, 3)` BGR, with dots and limbs drawn into `image_bgr`.

    limbs  pairs of keypoints; those that were not found (NaN) are left out

    Raises PerceptionError when the image is not of that kind.
    """
    check_image(image_bgr, 'bgr')
    image = image_bgr.copy()
    for person in people:
        color = track_color(person.track_id)
        for first, second in limbs:
            _line(image, person.keypoints[[first, second]], color, 1)
        for point in person.keypoints[_drawable(person.keypoints)]:
            center = tuple(int(value) for value in np.round(point))
            cv2.circle(image, center, _DOT_PX + 1, (0, 0, 0), -1, cv2.LINE_AA)
            cv2.circle(image, center, _DOT_PX, color, -1, cv2.LINE_AA)
    return image


def _drawable(points: np.ndarray) -> np.ndarray:
    """Tell, bool `(K,)`, which points `(K, 2)` OpenCV can draw."""
    # Comparisons with NaN are false.
    return np.abs(points).max(axis=1) < _FARTHEST_PX


def _line(
        image: np.ndarray, ends: np.ndarray, color: tuple[int, int, int], thickness: int) -> None:
    """Draw a line between two points `(2, 2)`, unless one of them is unknown."""
    if _drawable(ends).all():
        start, end = (tuple(int(value) for value in point) for point in np.round(ends))
        cv2.line(image, start, end, color, thickness, cv2.LINE_AA)
