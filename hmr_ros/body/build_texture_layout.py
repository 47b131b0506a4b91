# SPDX-License-Identifier: Apache-2.0
"""
Unwraps the open bodies' mesh for textures, charts by body part (package `xatlas`, MIT).

The source's own atlas does not survive the reduction of the mesh: 76 faces come to lie across its
seams, 104 turn over, and charts overlap at hands, feet and mouth. Nothing here is needed at run
time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hmr_ros.body.loading import load_body
from hmr_ros.body.model import BodyError, BodyModel
from hmr_ros.body.texture_layout import faces_sha256

#: joints whose skin is unwrapped together: head, trunk, arms, hands, legs, feet.
PARTS = ((12, 15), (0, 3, 6, 9, 13, 14), (16, 18), (17, 19), (20, 22), (21, 23), (1, 4), (2, 5),
         (7, 10), (8, 11))
#: pixels of the atlas, and between charts: one of a texture of 128 pixels.
_RESOLUTION, _PADDING = 512, 4
#: how far a chart may be from flat before it is cut: few large ones suit small textures.
_MOST_COST = 16.0


def part_of_faces(body: BodyModel) -> np.ndarray:
    """Row of `PARTS` of each face `(F,)`, by the joint that its corners follow most."""
    joint_part = np.zeros(len(body.parents), np.int64)
    for part, joints in enumerate(PARTS):
        joint_part[list(joints)] = part
    return joint_part[body.weights[body.faces].sum(axis=1).argmax(axis=1)]


def build_texture_layout(body: BodyModel) -> dict[str, np.ndarray]:
    """Build all arrays of the layout's file; BodyError when xatlas is not there."""
    try:
        import xatlas
    except ImportError as error:
        raise BodyError(
            f'building the texture layout needs the package xatlas ({error}); pip install xatlas, '
            'or use the layout that ships with hmr_ros') from error
    atlas, part = xatlas.Atlas(), part_of_faces(body)
    rows = [np.flatnonzero(part == number) for number in range(len(PARTS))]
    for faces in rows:
        used, local = np.unique(body.faces[faces], return_inverse=True)
        atlas.add_mesh(body.v_template[used], local.reshape(-1, 3).astype(np.uint32))
    charts, packing = xatlas.ChartOptions(), xatlas.PackOptions()
    charts.max_cost = _MOST_COST
    packing.resolution, packing.padding = _RESOLUTION, _PADDING
    # A chart turned by a quarter comes out mirrored.
    packing.rotate_charts = False
    atlas.generate(chart_options=charts, pack_options=packing)
    return {**_joined(atlas, rows), 'faces_sha256': np.array(faces_sha256(body.faces))}


def _joined(atlas: Any, rows: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Return vt and ft of a packed `atlas` whose meshes are the faces `rows` of the body."""
    vt, ft = [], np.empty((sum(map(len, rows)), 3), np.int32)
    for number, faces in enumerate(rows):
        _, corners, places = atlas[number]
        ft[faces] = corners.astype(np.int64) + sum(map(len, vt))
        vt.append(places)
    return {'vt': np.concatenate(vt).astype(np.float32), 'ft': ft}


def main(path: str | Path) -> None:
    """Build the layout of the open bodies and write it to `path` (.npz)."""
    np.savez_compressed(path, **build_texture_layout(load_body()))
