# SPDX-License-Identifier: Apache-2.0
"""From one framed image and its joints to a surface (sheet, section 9)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np

from hmr_ros.perception.crops import check_image
from hmr_ros.perception.digitizer.alignment import align, Alignment
from hmr_ros.perception.digitizer.depth import BACK_EMPTY, FRONT_EMPTY
from hmr_ros.perception.digitizer.frame import (
    colours_of_training, enlarged, LOW, low_resolution, planes_of, without_background)
from hmr_ros.perception.digitizer.joints import Joints
from hmr_ros.perception.digitizer.networks import Networks
from hmr_ros.perception.digitizer.parts import PATCHES
from hmr_ros.perception.digitizer.patches import blend, covered, cut_patches
from hmr_ros.perception.digitizer.surface import Surface, surface_of
from hmr_ros.perception.errors import PerceptionError

#: what is done, in this order.
STAGES = ('align', 'low', 'parts', 'refine', 'surface')
#: about how much of the time has gone by when a stage begins.
_BEGINS = dict(zip(STAGES, (0.0, 0.02, 0.12, 0.6, 0.95)))
#: a low mask up to here is background (sheet, 3.3).
_LIKELY = 0.5
#: of a slope's forward component, against division by what networks may give.
_LEAST_FORWARD = 1e-3

#: is told the stage and how much is done, 0 to 1, before each of them; may raise Cancelled.
Watch = Callable[[str, float], None]


class Cancelled(PerceptionError):
    """Whoever watches a digitization wants no more of it."""


@dataclass(frozen=True)
class Digitization:
    """
    What was found of one person in an image of S pixels.

    surface      both sides in space
    image        (S, S, 3) uint8 RGB as it was given
    normals      (6, S, S) float32 encoded normals of front and back that the depth was made of
    front, back  (S, S) float32 D
    mask         (S, S) float32 chance of being foreground, which the surface does not use
    alignment    the parts
    """

    surface: Surface
    image: np.ndarray
    normals: np.ndarray
    front: np.ndarray
    back: np.ndarray
    mask: np.ndarray
    alignment: Alignment


def _unwatched(_stage: str, _done: float) -> None:
    pass


def digitize(
        image: np.ndarray, joints: Joints, networks: Networks, watch: Watch = _unwatched,
        mask: np.ndarray | None = None) -> Digitization:
    """
    Digitize the person in an image that is framed already, see `framing`.

    image   (S, S, 3) uint8 RGB, S the networks' resolution
    joints  in pixels of the image
    mask    (S, S) bool, where the person is; what lies outside becomes black first

    Raises PerceptionError for an image of another size, when the person is seen from behind or
    from the side, and when networks see nobody.
    """
    _check_size(image, networks.resolution)
    watch('align', _BEGINS['align'])
    alignment = align(joints, networks.resolution)
    planes = planes_of(colours_of_training(
        image if mask is None else without_background(image, mask)))
    watch('low', _BEGINS['low'])
    low_normals, low_depth = networks.low(low_resolution(planes))
    pair = emptied(low_depth)
    normals = _normals_of(planes, low_normals, low_depth[2], alignment, networks, watch)
    watch('refine', _BEGINS['refine'])
    front, back, chance = networks.refine(pair, normals)
    watch('surface', _BEGINS['surface'])
    surface = in_one_piece(surface_of(front, back))
    return Digitization(surface, image, normals, front, back, chance, alignment)


def _check_size(image: np.ndarray, side: int) -> None:
    check_image(image, 'rgb')
    if image.shape[:2] != (side, side):
        raise PerceptionError(
            f'the image has {image.shape[1]}x{image.shape[0]} pixels; the networks take '
            f'{side}x{side}. Frame the person first')


def emptied(depth: np.ndarray) -> np.ndarray:
    """
    Take both D `(2, s, s)` of low depth `(3, s, s)`, empty where its mask is 0.5 or less.

    Raises PerceptionError when it is so everywhere.
    """
    likely = depth[2] > _LIKELY
    if not likely.any():
        raise PerceptionError(
            'the networks see nobody in the image. Is one person in the middle of it, from head to '
            'foot, and were the weights trained for this resolution?')
    empty = np.float32([FRONT_EMPTY, BACK_EMPTY])[:, None, None]
    return np.where(likely, depth[:2], empty)


def _normals_of(
        planes: np.ndarray, low_normals: np.ndarray, low_mask: np.ndarray, alignment: Alignment,
        networks: Networks, watch: Watch) -> np.ndarray:
    """Normals `(6, S, S)` of parts; each network is run by itself, which bounds the memory."""
    patches = cut_patches(planes, low_normals, alignment)
    seen = {placed.part.patch for placed in alignment.placed}
    names = [name for name in PATCHES if name in seen]
    begin, end = _BEGINS['parts'], _BEGINS['refine']
    found = {}
    for number, name in enumerate(names):
        watch('parts', begin + (end - begin) * number / len(names))
        found |= networks.parts({name: patches.pop(name)})
    return completed(blend(found, alignment), low_normals, low_mask, alignment)


def completed(
        normals: np.ndarray, low_normals: np.ndarray, low_mask: np.ndarray,
        alignment: Alignment) -> np.ndarray:
    """
    Fill in normals `(6, S, S)` where no part lies but a body does, by the low ones.

    low_normals  (6, S / 8, S / 8) of the same networks
    low_mask     (S / 8, S / 8) chance of being foreground

    All parts together cover nearly everybody; without toes or fingers whole parts are missing.
    """
    bare = ~covered(alignment) & (enlarged(low_mask[None])[0] > _LIKELY)
    if not bare.any():
        return normals
    return np.where(bare, enlarged(flattened(low_normals)), normals)


def flattened(low_normals: np.ndarray) -> np.ndarray:
    """
    Encode low normals `(6, s, s)` as steep as those at eight times the resolution are.

    From one of their pixels to the next D changes eight times as much, see `normals.encode`.
    What is empty stays 0.
    """
    sides = low_normals.clip(0, 1).reshape(2, 3, *low_normals.shape[1:])
    slope = 2 * sides - 1
    slope[:, 2] = LOW * slope[:, 2].clip(_LEAST_FORWARD)
    slope /= np.linalg.norm(slope, axis=1, keepdims=True)
    there = sides.any(1, keepdims=True)
    return np.where(there, (slope + 1) / 2, 0).astype(np.float32).reshape(low_normals.shape)


def in_one_piece(surface: Surface) -> Surface:
    """
    Keep the largest piece alone, without threads of single pixels, so that its mesh is one surface.

    Pieces hang together where two squares of four pixels share an edge, as meshes do. Raises
    PerceptionError when there is no such square.
    """
    there = surface.there.astype(np.uint8)
    # Each pixel of the result stands for the square of it and those before it.
    squares = cv2.erode(there, np.ones((2, 2), np.uint8), borderValue=0)
    _, labels, facts, _ = cv2.connectedComponentsWithStats(squares, connectivity=4)
    sizes = facts[:, cv2.CC_STAT_AREA].copy()
    sizes[0] = 0
    if not sizes.any():
        raise PerceptionError(
            'the networks gave no pixel whose front is before its back. Is one person in the '
            'middle of the image, from head to foot, and are these trained weights?')
    largest = (labels == sizes.argmax()).astype(np.uint8)
    pixels = cv2.dilate(largest, np.ones((2, 2), np.uint8), anchor=(0, 0), borderValue=0)
    return replace(surface, there=pixels > 0)
