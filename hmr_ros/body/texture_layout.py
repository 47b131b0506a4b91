# SPDX-License-Identifier: Apache-2.0
"""Where the skin of a body lies in a texture (rsc_net sheet, section 2.6)."""

from __future__ import annotations

from dataclasses import dataclass
import functools
import hashlib
from pathlib import Path

import cv2
import numpy as np
from scipy.ndimage import distance_transform_edt

from hmr_ros.body.loading import read_arrays
from hmr_ros.body.model import BodyError, SkinnedModel

OPEN_LAYOUT = Path(__file__).parent / 'data' / 'open_body_uv.npz'
#: a texel on the edge of two faces must not fall between them.
_EDGE = 1e-9


@dataclass(frozen=True)
class TexelMap:
    """
    What each texel of a texture shows; rows from the top.

    face   (S, S)     int32 face of the body, -1 where there is none
    share  (S, S, 3)  float32 shares of the face's corners, they sum to 1; 0 where there is no face
    """

    face: np.ndarray
    share: np.ndarray


@dataclass(frozen=True, eq=False)
class TextureLayout:
    """
    An atlas of a body's skin, as SMPL's files have it.

    vt  (T, 2)  float32 places in the texture, 0 to 1: u to the right, v up
    ft  (F, 3)  int32 rows of vt of the corners of each face; faces in the body's order
    """

    vt: np.ndarray
    ft: np.ndarray

    @functools.lru_cache(maxsize=4)
    def texel_map(self, size: int) -> TexelMap:
        """
        Face and place in it at the centre of every texel of a texture `(size, size)`.

        Computed once for each of the last sizes asked for.
        """
        corners = self._pixels(size)[self.ft]
        number, column, row = _candidates(corners, size)
        shares = _shares(corners[number], np.stack([column, row], axis=1))
        inside = (shares >= -_EDGE).all(axis=1)
        face = np.full((size, size), -1, np.int32)
        share = np.zeros((size, size, 3), np.float32)
        face[row[inside], column[inside]] = number[inside]
        share[row[inside], column[inside]] = shares[inside]
        face.setflags(write=False)
        share.setflags(write=False)
        return TexelMap(face, share)

    def fill(self, texture: np.ndarray) -> np.ndarray:
        """
        Give texels `(S, S, C)` beside the charts the colour of the nearest one that shows skin.

        Without it, vertices on the edge of a chart read half of what lies beside it.
        """
        empty = self.texel_map(len(texture)).face < 0
        row, column = distance_transform_edt(
            empty, return_distances=False, return_indices=True)
        return texture[row, column]

    def vertex_colours(self, texture: np.ndarray, faces: np.ndarray) -> np.ndarray:
        """
        Colours of the vertices `(V, C)` float32, bilinear; where charts meet, their mean.

        texture (S, S, C) uint8 or float32, rows from the top; faces (F, 3) of the body.
        """
        places = self._pixels(len(texture)).astype(np.float32)[:, None]
        seen = cv2.remap(texture.astype(np.float32), places, None, cv2.INTER_LINEAR,
                         borderMode=cv2.BORDER_REPLICATE)
        pairs = np.unique(np.stack([faces.ravel(), self.ft.ravel()], axis=1), axis=0)
        colours = seen.reshape(len(places), -1)[pairs[:, 1]]
        total = np.zeros((int(faces.max()) + 1, colours.shape[1]), np.float32)
        np.add.at(total, pairs[:, 0], colours)
        return total / np.bincount(pairs[:, 0])[:, None]

    def _pixels(self, size: int) -> np.ndarray:
        """Return `vt` in texels `(T, 2)`: 0 is the centre of the first column and the top row."""
        return np.stack([self.vt[:, 0], 1 - self.vt[:, 1]], axis=1).astype(np.float64) * size - 0.5


def _candidates(corners: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Face, column and row of all texels in the boxes round the faces' `corners` `(F, 3, 2)`."""
    low = np.maximum(np.ceil(corners.min(axis=1)), 0).astype(np.int64)
    high = np.minimum(np.floor(corners.max(axis=1)), size - 1).astype(np.int64)
    width, height = np.maximum(high - low + 1, 0).T
    count = width * height
    number = np.repeat(np.arange(len(corners)), count)
    place = np.arange(len(number)) - np.repeat(np.cumsum(count) - count, count)
    row, column = np.divmod(place, width[number])
    return number, column + low[number, 0], row + low[number, 1]


def _shares(corners: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Shares `(P, 3)` that the corners `(P, 3, 2)` have in `points` `(P, 2)`; NaN in no area."""
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    point = points - corners[:, 0]
    with np.errstate(divide='ignore', invalid='ignore'):
        shares = np.stack([_cross(point, second), _cross(first, point)], axis=1)
        shares = shares / _cross(first, second)[:, None]
    return np.concatenate([1 - shares.sum(axis=1, keepdims=True), shares], axis=1)


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]


def faces_sha256(faces: np.ndarray) -> str:
    """Digest of a mesh `(F, 3)`, by which a layout names the faces that it belongs to."""
    return hashlib.sha256(np.ascontiguousarray(faces, '<i4').tobytes()).hexdigest()


def load_texture_layout(body: SkinnedModel, path: str | Path | None = None) -> TextureLayout:
    """
    Load the layout of `body`: the open bodies' own, or the user's file (.obj with vt, or .npz).

    Raises BodyError when the file is missing or damaged, or belongs to another mesh.
    """
    path = OPEN_LAYOUT if path is None else Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BodyError(f'texture layout {path} cannot be read ({error.strerror}); give the .obj '
                        'template with texture coordinates that belongs to your body model'
                        ) from error
    arrays = (_read_obj(path, content) if path.suffix == '.obj'
              else read_arrays(path, content, ('vt', 'ft', 'f', 'faces_sha256')))
    _check(path, arrays, body)
    return TextureLayout(np.ascontiguousarray(arrays['vt'], np.float32),
                         np.ascontiguousarray(arrays['ft'], np.int32))


def _read_obj(path: Path, content: bytes) -> dict[str, np.ndarray]:
    """Return vt `(T, 2)`, ft and f `(F, 3)` of a file whose faces are triangles v/vt."""
    lines = [line.split() for line in content.decode(errors='replace').splitlines()]
    try:
        places = np.array([line[1:3] for line in lines if line[:1] == ['vt']], np.float64)
        corners = np.array([[corner.split('/')[:2] for corner in line[1:]]
                            for line in lines if line[:1] == ['f']], np.int64)
    except ValueError as error:
        raise BodyError(f'texture layout {path}: expected triangles with corners v/vt and lines vt '
                        f'of numbers ({error}); export it again with texture coordinates'
                        ) from error
    if corners.ndim != 3 or corners.shape[1:] != (3, 2) or places.ndim != 2:
        raise BodyError(f'texture layout {path}: expected triangles with corners v/vt and lines '
                        'vt, it has none; export it again with texture coordinates')
    return {'vt': places, 'ft': corners[..., 1] - 1, 'f': corners[..., 0] - 1}


def _check(path: Path, arrays: dict[str, np.ndarray], body: SkinnedModel) -> None:
    missing = [name for name in ('vt', 'ft') if name not in arrays]
    if missing or not {'f', 'faces_sha256'} & set(arrays):
        raise BodyError(f'texture layout {path} lacks {", ".join(missing or ["f"])}; expected vt '
                        '(T, 2), ft (F, 3), and f, the faces of its body')
    mesh = str(arrays['faces_sha256']) if 'faces_sha256' in arrays else faces_sha256(arrays['f'])
    if mesh != faces_sha256(body.faces):
        raise BodyError(f'texture layout {path} belongs to other faces than body model '
                        f'{body.name} has; give the template of that body, its faces in the same '
                        'order')
    vt, ft = arrays['vt'], arrays['ft']
    if vt.ndim != 2 or vt.shape[1] != 2 or not (np.isfinite(vt).all() and 0 <= vt.min()
                                                and vt.max() <= 1):
        raise BodyError(f'texture layout {path}: vt must be (T, 2) within 0 to 1, got shape '
                        f'{vt.shape}; a layout of several tiles cannot be used')
    if ft.shape != body.faces.shape or ft.min() < 0 or ft.max() >= len(vt):
        raise BodyError(f'texture layout {path}: ft must be {body.faces.shape} rows of vt below '
                        f'{len(vt)}, got shape {ft.shape}; export the template again')
