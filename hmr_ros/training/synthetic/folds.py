# SPDX-License-Identifier: Apache-2.0
"""Folds of cloth and strands of hair as shape, where pictures alone would only tilt normals."""

from __future__ import annotations

from dataclasses import replace

import numba
import numpy as np

from hmr_ros.training.synthetic import anatomy as an
from hmr_ros.training.synthetic import appearance as ap
from hmr_ros.training.synthetic.anatomy import Anatomy
from hmr_ros.training.synthetic.appearance import Look
from hmr_ros.training.synthetic.cutouts import Dressed
from hmr_ros.training.synthetic.rasterizer import vertex_normals
from hmr_ros.training.synthetic.shading import noise, slot_of


def folded(person: Dressed, look: Look, anatomy: Anatomy, faces: np.ndarray) -> Dressed:
    """
    Move the clothed skin of a person out and in as its cloth folds; shells stay as they are.

    faces  (F, 3) of the body, whose vertices come first. Normals follow the new shape.
    """
    vertices, normals, own = person.vertices.copy(), person.normals.copy(), len(anatomy.parts)
    skin = np.ascontiguousarray(vertices[:own])
    _fold_out(skin, normals[:own], person.attributes, look.cloths, look.cuts, anatomy.face,
              float(anatomy.joints[12][1]), look.seed)
    vertices[:own], normals[:own] = skin, vertex_normals(skin, faces)
    return replace(person, vertices=vertices, normals=normals)


def smooth_cloths(look: Look) -> Look:
    """Return a look whose shading folds nothing, for shape that does."""
    cloths = look.cloths.copy()
    cloths[:, ap.FOLDS] = 0
    return replace(look, cloths=cloths)


@numba.njit(cache=True, nogil=True, fastmath=True)
def _fold_out(
        vertices: np.ndarray, normals: np.ndarray, attributes: np.ndarray, cloths: np.ndarray,
        cuts: np.ndarray, face: np.ndarray, collar: float, seed: int) -> None:
    for i in range(vertices.shape[0]):
        at = attributes[i]
        slot = slot_of(at, cuts, face, collar, seed)
        if slot == ap.HAIR:
            height = 0.004 * (noise(at[an.REST_X] * 70, at[an.REST_Y] * 25, at[an.REST_Z] * 70,
                                    seed + 5) - 0.5)
        else:
            loose = cuts[ap.LOOSE_BOTTOM] if slot == ap.BOTTOM else cuts[ap.LOOSE_TOP]
            height = cloths[slot, ap.FOLDS] * _fold(at, loose, seed + 11)
        for k in range(3):
            vertices[i, k] += height * normals[i, k]


@numba.njit(cache=True, nogil=True, fastmath=True)
def _fold(at: np.ndarray, loose: float, seed: int) -> float:
    """Height in metres of the strongest cloth: ridges that cross, and smaller waves."""
    x, y, z = at[an.REST_X], at[an.REST_Y], at[an.REST_Z]
    across, along = (11.0, 20.0) if loose < 0.012 else (8.0, 13.0)
    strength = 1.0 if loose < 0.012 else 1.4
    if at[an.LEG] > 0.5:  # folds of a trouser leg gather at the knee and the ankle
        strength *= 0.5 + 0.9 * abs(np.cos(np.pi * at[an.LEG_AT]))
    if at[an.ARM] > 0.5:
        across, along = along, across
    slant = 5.0 * x
    a = noise(x * across, y * along + slant, z * across, seed) - 0.5
    b = noise(x * across, y * along - slant, z * across, seed + 1) - 0.5
    c = noise(x * across * 2.3, y * along * 2.3, z * across * 2.3, seed + 2) - 0.5
    return strength * (0.012 * (0.3 - 2 * abs(a)) + 0.010 * (0.3 - 2 * abs(b)) + 0.006 * c)
