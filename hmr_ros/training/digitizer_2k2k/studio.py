# SPDX-License-Identifier: Apache-2.0
"""Pictures of cut-out people before backgrounds, as cameras take them (sheet, section 4)."""

from __future__ import annotations

import cv2
import numpy as np

from hmr_ros.perception.digitizer.frame import LOW, planes_of
from hmr_ros.training.synthetic.augment import Grain
from hmr_ros.training.synthetic.backgrounds import background_pool
from hmr_ros.training.synthetic.painter import degrade, Recipe

_PHOTO = 0.6
#: brightness, saturation and contrast; images that are digitized have the middle of it.
_DIMMEST = 0.7
_LUMA = np.float32([0.299, 0.587, 0.114])
_DRAWN = 48
#: backgrounds are this much larger than images; a piece of one has at least half an image's side.
_SPAN, _SMALLEST = 1.5, 0.5
_BLUR_PX = 1.2
_CAMERA = Recipe(blur=0.25, coarsen=0.0, compress=0.3, grey=0.02, noise=8.0)
#: small images are means of four pixels.
_SMALL_CAMERA = Recipe(blur=0.0, coarsen=0.0, compress=0.0, grey=0.02, noise=4.0)


class Studio:
    """
    Makes pictures of `side` pixels.

    Cut out or not, whole pictures are darkened, not people alone as published: that is what is done
    to images that are digitized, and these mostly have their own background.
    """

    def __init__(self, side: int, seed: int, photos: str | None, black: float) -> None:
        rng = np.random.default_rng([seed, 7])
        self.side, self._black = side, black
        self._drawn, self._photos = background_pool(rng, _DRAWN, round(_SPAN * side), photos)
        self._grain = Grain(rng)

    def picture(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Planes float32 `(3, S, S)`, -1 to 1, of a person `(S, S, 4)` uint8, colours and cover."""
        cover = image[..., 3:].astype(np.float32) / 255
        start, width = self._piece(rng)
        behind = start if start is None else cv2.resize(
            start[:width, :width], (self.side, self.side), interpolation=cv2.INTER_LINEAR)
        picture = _over(image[..., :3] * cover, cover, behind)
        picture = softened_edge(picture, image[..., 3] > 0)
        picture = degrade(rng, picture, _CAMERA, self._grain, _BLUR_PX)
        return planes_of(darkened(picture, rng))

    def small_picture(
            self, colours: np.ndarray, cover: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """
        Do the same for a person at an eighth of the size, which takes a hundredth of the time.

        colours  (s, s, 3) uint8, multiplied by the cover `(s, s)` uint8 before they were made small

        Blurs, codecs and the softened edge, which hardly are seen there, are left out.
        """
        piece, width = self._piece(rng)
        behind = None if piece is None else _thinned(piece, width, self.side // LOW)
        picture = _over(colours, cover[..., None].astype(np.float32) / 255, behind)
        return planes_of(darkened(
            degrade(rng, picture, _SMALL_CAMERA, self._grain, 0.0), rng))

    def _piece(self, rng: np.random.Generator) -> tuple[np.ndarray | None, int]:
        """Draw a background from its first pixel on, None for black, and how much of it to show."""
        if rng.random() < self._black:
            return None, 0
        pool = self._photos if len(self._photos) and rng.random() < _PHOTO else self._drawn
        whole = pool[rng.integers(len(pool))]
        width = int(rng.integers(round(_SMALLEST * self.side), len(whole) + 1))
        top, left = rng.integers(len(whole) - width + 1, size=2)
        return whole[top:, left:], width


def _thinned(piece: np.ndarray, width: int, side: int) -> np.ndarray:
    """Make `(width, width, 3)` small as images are: a mean of four pixels of many."""
    first = ((np.arange(side) + 0.5) * (width / side) - 1).astype(np.int64).clip(0, width - 2)
    rows, columns = first[:, None], first[None]
    return sum(piece[rows + down, columns + right].astype(np.float32)
               for down in (0, 1) for right in (0, 1)) / 4


def _over(colours: np.ndarray, cover: np.ndarray, behind: np.ndarray | None) -> np.ndarray:
    picture = colours if behind is None else colours + (1 - cover) * behind
    return np.ascontiguousarray(np.round(picture).clip(0, 255), np.uint8)


def softened_edge(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Blur `(S, S, 3)` uint8 in a band of three pixels along the edge of bool `(S, S)`."""
    band = cv2.morphologyEx(
        mask.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    soft = cv2.GaussianBlur(cv2.medianBlur(picture, 3), (5, 5), 0)
    return np.where(band[..., None], soft, picture)


def darkened(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Scale brightness, saturation and contrast of RGB `(S, S, 3)`, 0 to 255, as published."""
    bright, vivid, contrast = rng.uniform(_DIMMEST, 1, 3).astype(np.float32)
    image = bright * picture.astype(np.float32)
    image = vivid * image + (1 - vivid) * (image @ _LUMA)[..., None]
    return contrast * image + (1 - contrast) * np.mean(image @ _LUMA)
