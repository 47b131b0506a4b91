# SPDX-License-Identifier: Apache-2.0
"""
Colour of every pixel: which garment, which pattern, which light. Compiled, one pass per person.

The small functions are written so that a CUDA kernel could call them unchanged.
"""

from __future__ import annotations

from collections.abc import Callable
import math

import numba
import numpy as np

from hmr_ros.training.synthetic import anatomy as an
from hmr_ros.training.synthetic import appearance as ap

#: kinds of surface in column KIND of the attribute table.
BODY, SKIRT_SHELL, HAIR_SHELL, BAG_SHELL, BRIM = 0, 1, 2, 3, 4
#: rows of the light table `(7, 3)`: direction to the key light, its colour, light of the sky, light
#: of the ground, up, (strength of shadows, strength of occlusion, exposure), spare.
KEY, KEY_COLOUR, SKY, GROUND, UP, STRENGTHS = range(6)
LIGHT_ROWS = 6

_device: Callable = numba.njit(cache=True, nogil=True, fastmath=True, inline='never')


@_device
def _hash(x: int, y: int, z: int, seed: int) -> float:
    h = (x * 374761393 + y * 668265263 + z * 2147483647 + seed * 1274126177) & 0xFFFFFFFF
    h = ((h ^ (h >> 13)) * 1274126177) & 0xFFFFFFFF
    return ((h ^ (h >> 16)) & 0xFFFF) * (1.0 / 65535.0)


@_device
def noise(x: float, y: float, z: float, seed: int) -> float:
    """Smooth noise in [0, 1] with a grain of one unit."""
    fx, fy, fz = math.floor(x), math.floor(y), math.floor(z)
    i, j, k = int(fx), int(fy), int(fz)
    u, v, w = x - fx, y - fy, z - fz
    u, v, w = u * u * (3 - 2 * u), v * v * (3 - 2 * v), w * w * (3 - 2 * w)
    total = 0.0
    for d in range(8):
        a, b, c = d & 1, (d >> 1) & 1, (d >> 2) & 1
        weight = (u if a else 1 - u) * (v if b else 1 - v) * (w if c else 1 - w)
        total += weight * _hash(i + a, j + b, k + c, seed)
    return total


@_device
def _head_slot(at: np.ndarray, cuts: np.ndarray, face: np.ndarray, seed: int) -> int:
    """Skin, hair, hat or a high collar."""
    height = (at[an.REST_Y] - face[3]) / (face[3] - face[0])
    forward = (at[an.REST_Z] - face[6]) / face[7]
    if height > cuts[ap.HAT_LINE] + 0.12 * forward:
        return ap.HAT
    ragged = 0.14 * noise(at[an.REST_X] * 70, at[an.REST_Y] * 50, at[an.REST_Z] * 70, seed)
    if height - 0.72 * forward + ragged > 0.07 + cuts[ap.HAIRLINE] and height > -0.75:
        return ap.HAIR
    return ap.SKIN


@_device
def _leg_slot(at: np.ndarray, cuts: np.ndarray) -> int:
    place = at[an.LEG_AT]
    if place > cuts[ap.SHOE_TOP]:
        return ap.SHOE
    if place < cuts[ap.TROUSER]:
        return ap.BOTTOM
    return ap.SOCK if place > cuts[ap.SOCK_TOP] else ap.SKIN


@_device
def _arm_slot(at: np.ndarray, cuts: np.ndarray) -> int:
    place = at[an.ARM_AT]
    if place < cuts[ap.SLEEVE]:
        return ap.TOP
    return ap.GLOVE if place > cuts[ap.GLOVE_END] else ap.SKIN


@_device
def _trunk_slot(at: np.ndarray, cuts: np.ndarray, collar: float) -> int:
    """Top, neckline, open jacket, or trousers below the hem."""
    x, y, z = abs(at[an.REST_X]), at[an.REST_Y], at[an.REST_Z]
    if y < cuts[ap.HEM]:
        return ap.BOTTOM
    if y > collar + cuts[ap.NECK]:
        return ap.SKIN
    if z > 0.0:
        below = collar + cuts[ap.NECK] - y
        if below < cuts[ap.NECK_DEPTH] and x < 0.075 * (1 - below / cuts[ap.NECK_DEPTH]) + 0.01:
            return ap.SKIN
        if x < cuts[ap.OPEN]:
            return ap.INNER if y > cuts[ap.WAIST] else ap.BOTTOM
    return ap.TOP


@_device
def slot_of(at: np.ndarray, cuts: np.ndarray, face: np.ndarray, collar: float, seed: int) -> int:
    """Row of the cloth table for a surface point with attributes `at`."""
    kind = int(at[an.KIND] + 0.5)
    if kind == SKIRT_SHELL:
        return ap.TOP if cuts[ap.COAT] > 0 else ap.BOTTOM
    if kind == HAIR_SHELL:
        return ap.HAIR
    if kind == BAG_SHELL:
        return ap.BAG
    if kind == BRIM:
        return ap.HAT
    if at[an.ARM] > 0.5:
        return _arm_slot(at, cuts)
    if at[an.HEAD] > 0.5 and at[an.REST_Y] > collar + cuts[ap.NECK]:
        return _head_slot(at, cuts, face, seed)
    if at[an.LEG] > 0.5 and at[an.REST_Y] < cuts[ap.HEM]:
        return _leg_slot(at, cuts)
    return _trunk_slot(at, cuts, collar)


@_device
def _pattern(at: np.ndarray, cloth: np.ndarray, collar: float, seed: int) -> float:
    """Share of the second colour, 0 to 1."""
    kind, scale = int(cloth[ap.PATTERN]), cloth[ap.SCALE]
    # Stripes run round a limb, so an arm counts along its length.
    up = abs(at[an.REST_X]) if at[an.ARM] > 0.5 else at[an.REST_Y]
    out = at[an.REST_Y] if at[an.ARM] > 0.5 else at[an.REST_X]
    below = collar - at[an.REST_Y]
    if kind == ap.ACROSS:
        return 1.0 if (up / scale) % 1.0 < 0.42 else 0.0
    if kind == ap.ALONG:
        return 1.0 if (out / scale) % 1.0 < 0.3 else 0.0
    if kind == ap.CHECKS:
        return 0.5 * ((up / scale) % 1.0 < 0.4) + 0.5 * ((out / scale) % 1.0 < 0.4)
    if kind == ap.BLOTCHES:
        value = noise(at[an.REST_X] / scale, at[an.REST_Y] / scale, at[an.REST_Z] / scale, seed)
        return min(1.0, max(0.0, (value - 0.5) * 12.0))
    if kind == ap.YOKE:
        return 1.0 if below < 0.16 and at[an.ARM] < 0.5 else 0.0
    if kind == ap.LOGO:
        inside = abs(at[an.REST_X]) < 0.4 * scale + 0.05 and 0.14 < below < 0.16 + 1.2 * scale
        return 1.0 if inside and at[an.REST_Z] > 0 and at[an.ARM] < 0.5 else 0.0
    if kind == ap.BANDS:
        return 1.0 if (0.30 < below < 0.35 or 0.42 < below < 0.47 or
                       0.09 < abs(at[an.REST_X]) < 0.13 and below < 0.3) else 0.0
    return 0.0


@_device
def _in_the_mouth(
        x: float, y: float, z: float, face: np.ndarray, features: np.ndarray) -> bool:
    """Whether a place of the head lies behind the lips, between the middle of the head and them."""
    unit = face[3] - face[0]
    return (face[6] < z < features[5] and x < features[2] * unit and
            abs(y - face[1]) < 2.0 * features[3] * unit)


@_device
def _paint_face(
        rgb: np.ndarray, at: np.ndarray, face: np.ndarray, features: np.ndarray,
        hair: np.ndarray, beard: float) -> None:
    """Eyes, brows, mouth and beard over the skin of the face, in place."""
    x, y = abs(at[an.REST_X]), at[an.REST_Y]
    if _in_the_mouth(x, y, at[an.REST_Z], face, features):
        rgb[0], rgb[1], rgb[2] = 0.09, 0.02, 0.02
        return
    if at[an.REST_Z] < face[6] + 0.25 * face[7]:
        return
    unit = face[3] - face[0]
    eye = (((x - face[5]) / (features[0] * unit)) ** 2 +
           ((y - face[3]) / (features[1] * unit)) ** 2)
    lips = features[3] * unit * (1.0 - features[4] * (x / (features[2] * unit)) ** 2)
    if eye < 1.0:
        shade = 0.03 if (x - face[5]) ** 2 < (0.07 * unit) ** 2 else 0.55
        rgb[0], rgb[1], rgb[2] = shade, shade, shade
    elif abs(y - face[4]) < 0.045 * unit and abs(x - face[5]) < 0.19 * unit:
        for k in range(3):
            rgb[k] = 0.3 * rgb[k] + 0.7 * hair[k]
    elif abs(y - face[1]) < lips and x < features[2] * unit:
        rgb[0], rgb[1], rgb[2] = 0.72 * rgb[0], 0.42 * rgb[1], 0.45 * rgb[2]
    elif y < face[2] - 0.10 * unit and beard > 0.0:
        for k in range(3):
            rgb[k] = (1 - beard) * rgb[k] + beard * hair[k]


@_device
def _albedo(
        at: np.ndarray, slot: int, cloths: np.ndarray, cuts: np.ndarray, face: np.ndarray,
        features: np.ndarray, collar: float, seed: int, rgb: np.ndarray) -> None:
    """Linear colour of the surface into `rgb`."""
    cloth = cloths[slot]
    share = _pattern(at, cloth, collar, seed)
    fine = 220.0 if slot != ap.HAIR else 130.0
    stretch = 1.0 if slot != ap.HAIR else 0.2
    grain = noise(at[an.REST_X] * fine, at[an.REST_Y] * fine * stretch, at[an.REST_Z] * fine, seed)
    wear = noise(at[an.REST_X] * 9, at[an.REST_Y] * 9, at[an.REST_Z] * 9, seed + 7)
    tone = 1.0 + cloth[ap.GRAIN] * (grain - 0.5) * 2 + 0.14 * (wear - 0.5)
    for k in range(3):
        rgb[k] = tone * ((1 - share) * cloth[ap.COLOUR + k] + share * cloth[ap.SECOND + k])
    if slot == ap.SKIN and at[an.HEAD] > 0.5:
        _paint_face(rgb, at, face, features, cloths[ap.HAIR], cuts[ap.BEARD])
    if slot == ap.SHOE and at[an.LEG_AT] > 1.8 and at[an.SHEEN] > 0.5:
        rgb[0], rgb[1], rgb[2] = 0.75, 0.75, 0.75


@_device
def _shadow(
        shadow: np.ndarray, view: np.ndarray, p: np.ndarray, bias: float) -> float:
    """Share of the key light that arrives, from four taps of the shadow map."""
    u = view[0, 0] * p[0] + view[0, 1] * p[1] + view[0, 2] * p[2] + view[0, 3]
    v = view[1, 0] * p[0] + view[1, 1] * p[1] + view[1, 2] * p[2] + view[1, 3]
    near = view[2, 0] * p[0] + view[2, 1] * p[1] + view[2, 2] * p[2] + view[2, 3] + bias
    height, width = shadow.shape
    lit = 0.0
    for d in range(4):
        i, j = int(v + 0.5 * (d & 1) + 0.25), int(u + 0.5 * (d >> 1) + 0.25)
        if i < 0 or j < 0 or i >= height or j >= width or shadow[i, j] <= near:
            lit += 0.25
    return lit


@_device
def fold_waves(
        at: np.ndarray, across: float, along: float,
        seed: int) -> tuple[float, float, float, float]:
    """How much cloth gathers at a place, and three waves of -0.5 to 0.5, so many a metre."""
    x, y, z = at[an.REST_X], at[an.REST_Y], at[an.REST_Z]
    gathered = 1.0
    if at[an.LEG] > 0.5:  # folds of a trouser leg gather at the knee and the ankle
        gathered = 0.5 + 0.9 * abs(math.cos(math.pi * at[an.LEG_AT]))
    if at[an.ARM] > 0.5:
        across, along = along, across
    slant = 5.0 * x
    return (gathered, noise(x * across, y * along + slant, z * across, seed) - 0.5,
            noise(x * across, y * along - slant, z * across, seed + 1) - 0.5,
            noise(x * across * 2.3, y * along * 2.3, z * across * 2.3, seed + 2) - 0.5)


@_device
def _fold_normal(
        n: np.ndarray, at: np.ndarray, strength: float, loose: float, seed: int) -> None:
    """Tilt the normal as the folds of cloth do, in place."""
    if strength <= 0.01:
        return
    across, along = (13.0, 24.0) if loose < 0.012 else (9.0, 15.0)
    gathered, a, b, c = fold_waves(at, across, along, seed)
    strength *= gathered
    n[0] += strength * (1.5 * a + 0.7 * c)
    n[1] += strength * (1.5 * b - 0.7 * c)
    n[2] += strength * (1.0 * (a - b))
    scale = 1.0 / math.sqrt(n[0] * n[0] + n[1] * n[1] + n[2] * n[2])
    for k in range(3):
        n[k] *= scale


@_device
def _illuminate(
        rgb: np.ndarray, n: np.ndarray, p: np.ndarray, light: np.ndarray, lit: float,
        open_sky: float, gloss: float) -> None:
    """Key light, sky and ground light and a highlight, in place."""
    facing = n[0] * light[KEY, 0] + n[1] * light[KEY, 1] + n[2] * light[KEY, 2]
    upward = 0.5 + 0.5 * (n[0] * light[UP, 0] + n[1] * light[UP, 1] + n[2] * light[UP, 2])
    arriving = lit * max(0.0, facing)
    shine = 0.0
    if gloss > 0.0 and facing > 0.0:
        far = 1.0 / math.sqrt(p[0] * p[0] + p[1] * p[1] + p[2] * p[2])
        h0, h1, h2 = (light[KEY, 0] - p[0] * far, light[KEY, 1] - p[1] * far,
                      light[KEY, 2] - p[2] * far)
        half = (n[0] * h0 + n[1] * h1 + n[2] * h2) / math.sqrt(h0 * h0 + h1 * h1 + h2 * h2 + 1e-9)
        shine = gloss * lit * max(0.0, half) ** 18
    for k in range(3):
        ambient = open_sky * (upward * light[SKY, k] + (1 - upward) * light[GROUND, k])
        value = rgb[k] * (ambient + arriving * light[KEY_COLOUR, k]) + shine * light[KEY_COLOUR, k]
        rgb[k] = value * light[STRENGTHS, 2]


@_device
def _mix(
        points: np.ndarray, closeness: np.ndarray, corners: np.ndarray, x: int, y: int,
        weights: np.ndarray) -> None:
    """Perspective-correct weights of a triangle's corners at pixel (x, y)."""
    a, b, c = corners[0], corners[1], corners[2]
    ax, ay, bx, by = points[a, 0], points[a, 1], points[b, 0], points[b, 1]
    cx, cy = points[c, 0], points[c, 1]
    wa = ((cx - bx) * (y - by) - (cy - by) * (x - bx)) * closeness[a]
    wb = ((ax - cx) * (y - cy) - (ay - cy) * (x - cx)) * closeness[b]
    wc = ((bx - ax) * (y - ay) - (by - ay) * (x - ax)) * closeness[c]
    total = wa + wb + wc
    weights[0], weights[1], weights[2] = wa / total, wb / total, wc / total


@numba.njit(cache=True, nogil=True, fastmath=True)
def shade(
        triangles: np.ndarray, points: np.ndarray, closeness: np.ndarray, faces: np.ndarray,
        vertices: np.ndarray, normals: np.ndarray, attributes: np.ndarray, parts: np.ndarray,
        cloths: np.ndarray, cuts: np.ndarray, face: np.ndarray, features: np.ndarray,
        collar: float, light: np.ndarray, shadow: np.ndarray, view: np.ndarray,
        occlusion: np.ndarray, seed: int, curve: np.ndarray, out: np.ndarray) -> None:
    """
    Colour all pixels that `rasterize` covered.

    triangles (H, W) int32 -1 where empty; points (V, 2), closeness (V,), faces (F, 3), vertices and
    normals (V, 3) in the camera, attributes (V, 10), parts (V,) uint8; cloths, cuts, face, features
    and light as their modules say; shadow (S, S) and its view (3, 4); occlusion (H, W) 1 where
    open; curve (1024,) uint8 from linear light to pixel values. Writes out (H, W, 4) uint8: RGB and
    part + 1.
    """
    at, n, p = np.empty(an.ATTRIBUTES, np.float32), np.empty(3), np.empty(3)
    rgb, weights = np.empty(3), np.empty(3)
    for y in range(triangles.shape[0]):
        for x in range(triangles.shape[1]):
            if triangles[y, x] < 0:
                continue
            corners = faces[triangles[y, x]]
            _mix(points, closeness, corners, x, y, weights)
            for k in range(an.ATTRIBUTES):
                at[k] = (weights[0] * attributes[corners[0], k] +
                         weights[1] * attributes[corners[1], k] +
                         weights[2] * attributes[corners[2], k])
            for k in range(3):
                n[k] = (weights[0] * normals[corners[0], k] + weights[1] * normals[corners[1], k] +
                        weights[2] * normals[corners[2], k])
                p[k] = (weights[0] * vertices[corners[0], k] +
                        weights[1] * vertices[corners[1], k] +
                        weights[2] * vertices[corners[2], k])
            slot = slot_of(at, cuts, face, collar, seed)
            _albedo(at, slot, cloths, cuts, face, features, collar, seed, rgb)
            loose = cuts[ap.LOOSE_BOTTOM] if slot == ap.BOTTOM else cuts[ap.LOOSE_TOP]
            _fold_normal(n, at, cloths[slot, ap.FOLDS], loose, seed + 11)
            lit = _shadow(shadow, view, p, 0.03)
            lit = 1.0 - light[STRENGTHS, 0] * (1.0 - lit)
            _illuminate(rgb, n, p, light, lit, occlusion[y, x], cloths[slot, ap.GLOSS])
            for k in range(3):
                out[y, x, k] = curve[min(1023, max(0, int(rgb[k] * 1023)))]
            best = int(np.argmax(weights))
            out[y, x, 3] = parts[corners[best]] + 1
