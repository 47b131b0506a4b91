# SPDX-License-Identifier: Apache-2.0
"""Rendered people without a background, with all that is known about them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from hmr_ros.body.model import BodyModel, SkinnedModel
from hmr_ros.training.synthetic import appearance as ap
from hmr_ros.training.synthetic import garments
from hmr_ros.training.synthetic.anatomy import Anatomy, study
from hmr_ros.training.synthetic.appearance import Look
from hmr_ros.training.synthetic.cameras import Views
from hmr_ros.training.synthetic.cutout_file import Cutouts, outermost
from hmr_ros.training.synthetic.errors import SyntheticError
from hmr_ros.training.synthetic.labels import twist_labels
from hmr_ros.training.synthetic.lights import shadow_view, tone_curve
from hmr_ros.training.synthetic.population import Population
from hmr_ros.training.synthetic.rasterizer import rasterize, vertex_normals
from hmr_ros.training.synthetic.shading import shade

_CHUNK = 32
_SHADOW_PX = 192
_NEAREST_M = 0.4
#: how far a joint may lie under the skin that shows it, metres.
_DEPTH_OF_JOINT = np.float32([0.2, .17, .17, .2, .10, .10, .2, .09, .09, .2, .08, .08, .13, .15,
                              .15, .16, .13, .13, .08, .08, .07, .07, .06, .06] + [.06] * 5)


@dataclass(frozen=True)
class CutoutStore(Cutouts):
    """
    Rendered people of an SMPL-format body; float32, metres.

    rotmats   (N, 24, 3, 3) parent-relative rotations, root in optical axes
    betas     (N, 10)       shape
    transl    (N, 3)        vertices = skinned vertices + transl
    joints3d  (N, 29, 3)    joints and leaves in the camera
    markers3d (N, 67, 3)    markers in the camera
    rendered  (N, 96)       1 where nothing of the person hides the keypoint
    phi       (N, 23, 2)    twist labels
    """

    rotmats: np.ndarray
    betas: np.ndarray
    transl: np.ndarray
    joints3d: np.ndarray
    markers3d: np.ndarray
    rendered: np.ndarray
    phi: np.ndarray


@dataclass(frozen=True)
class Crowd:
    """
    N posed people before rendering, in optical axes.

    rotmats (N, J, 3, 3), betas (N, K), transl (N, 3), vertices (N, V, 3), joints3d (N, 29, 3) with
    leaves, or (N, J, 3), world (N, J, 3, 3) posed global rotations, up (N, 3), views.
    """

    rotmats: np.ndarray
    betas: np.ndarray
    transl: np.ndarray
    vertices: np.ndarray
    joints3d: np.ndarray
    world: np.ndarray
    up: np.ndarray
    views: Views


def draw_betas(rng: np.random.Generator, count: int) -> np.ndarray:
    """Shape coefficients `(count, 10)` float32, standard normal within +-2.5."""
    return np.clip(rng.normal(size=(count, 10)), -2.5, 2.5).astype(np.float32)


def pose_crowd(
        body: BodyModel, pose: np.ndarray, betas: np.ndarray, views: Views) -> Crowd:
    """Put people `pose` (N, 24, 3), `betas` (N, 10) on the ground in front of their cameras."""
    rotmats = Rotation.from_rotvec(pose.reshape(-1, 3)).as_matrix().reshape(len(pose), 24, 3, 3)
    crowd = stand(body, rotmats, betas, views)
    joints = np.concatenate([crowd.joints3d, crowd.vertices[:, body.leaf_vertices]], axis=1)
    return replace(crowd, joints3d=joints)


def stand(
        body: SkinnedModel, rotmats: np.ndarray, coefficients: np.ndarray, views: Views) -> Crowd:
    """
    Put people on the ground in front of their cameras; `joints3d` are the J of the body.

    rotmats (N, J, 3, 3) without camera and heading, coefficients (N, K)
    """
    rotmats = rotmats.copy()
    heading = Rotation.from_euler('y', views.heading[:, None]).as_matrix()
    rotmats[:, 0] = views.rotation @ heading @ rotmats[:, 0]
    rotmats = rotmats.astype(np.float32)
    zero = np.zeros((len(rotmats), 3), np.float32)
    vertices, joints = body.skin(rotmats, coefficients, zero)
    up = views.rotation[:, :, 1].astype(np.float32)
    sole = np.einsum('nvk,nk->nv', vertices, up).min(axis=1)
    rise = np.einsum('nk,nk->n', joints[:, 0], up) - sole
    transl = (views.place + up * rise[:, None] - joints[:, 0]).astype(np.float32)
    # Someone who would touch the lens steps back.
    lack = np.maximum(0, _NEAREST_M - (vertices[:, :, 2] + transl[:, None, 2]).min(axis=1))
    transl[:, 2] += lack
    vertices += transl[:, None]
    world = body.pose_joints(rotmats, coefficients)[1]
    return Crowd(rotmats, coefficients, transl, vertices, joints + transl[:, None], world, up,
                 views)


def _shells(
        crowd: Crowd, i: int, look: Look, anatomy: Anatomy) -> list[garments.Shell]:
    cuts, joints, world = look.cuts, crowd.joints3d[i], crowd.world[i]
    shells = []
    if cuts[ap.SKIRT] > 0:
        hips = np.abs(anatomy.attributes[np.isin(anatomy.parts, (0, 1, 2))][:, 5:8])
        radius = np.quantile(hips, 0.98, axis=0)[[0, 2]]
        shells.append(garments.skirt(joints, world[0], cuts, radius))
    if cuts[ap.HAIR_LENGTH] > 0 and cuts[ap.HAT_LINE] > 2:
        shells.append(garments.long_hair(
            world[15], world[9], joints[15], joints[9], anatomy, cuts))
    if cuts[ap.BAG_SIZE] > 0:
        shells.append(garments.backpack(world[9], joints[9], anatomy, cuts[ap.BAG_SIZE]))
    return shells


@dataclass(frozen=True)
class Dressed:
    """A clothed surface: vertices and normals (V, 3), faces (F, 3), attributes, parts."""

    vertices: np.ndarray
    normals: np.ndarray
    faces: np.ndarray
    attributes: np.ndarray
    parts: np.ndarray


def dress(
        body: SkinnedModel, anatomy: Anatomy, crowd: Crowd, i: int, look: Look,
        finish: Callable[[garments.Shell], garments.Shell] = lambda shell: shell) -> Dressed:
    """Clothe person `i` of a crowd; `finish` may change the shells of skirts, hair and bags."""
    vertices = np.ascontiguousarray(crowd.vertices[i])
    normals = vertex_normals(vertices, body.faces)
    collar = float(anatomy.joints[12][1])
    garments.puff_up(vertices, normals, anatomy.attributes, look.cuts, anatomy.face, collar,
                     look.seed)
    blocks = [(vertices, normals, body.faces, anatomy.attributes, anatomy.parts)]
    offset = len(vertices)
    for shell in map(finish, _shells(crowd, i, look, anatomy)):
        half = len(shell.faces) // 2
        normal = vertex_normals(shell.vertices, shell.faces[:half])
        outward = np.sign(np.sum(normal * (shell.vertices - shell.vertices.mean(axis=0))))
        blocks.append((shell.vertices, normal * outward, shell.faces + offset, shell.attributes,
                       shell.parts))
        offset += len(shell.vertices)
    return Dressed(*(np.ascontiguousarray(np.concatenate(column)) for column in zip(*blocks)))


@dataclass(frozen=True)
class Window:
    """A square view of `size` pixels with its pinhole camera; centre is the principal point."""

    focal: float
    centre: np.ndarray
    size: tuple[int, int]


def window_around(vertices: np.ndarray, views: Views, i: int, size: int) -> Window:
    """Square window that just holds `vertices` (V, 3) of person i."""
    pixels = vertices[:, :2] / vertices[:, 2:] * views.focal[i] + views.centre[i]
    low, high = pixels.min(axis=0), pixels.max(axis=0)
    side = 1.05 * (high - low).max()
    scale = (size - 1) / side
    corner = 0.5 * (low + high) - 0.5 * side
    return Window(float(views.focal[i] * scale), (views.centre[i] - corner) * scale, (size, size))


def _open_sky(closeness: np.ndarray) -> np.ndarray:
    """Ambient occlusion from the depth buffer: 1 in the open, darker in hollows."""
    mask = (closeness > 0).astype(np.float32)
    depth = np.divide(1.0, closeness, out=np.zeros_like(closeness), where=closeness > 0)
    reach = (closeness.shape[0] // 14 | 1,) * 2
    mean = cv2.blur(depth, reach) / np.maximum(cv2.blur(mask, reach), 1e-6)
    return np.clip(1.05 - 3.5 * np.maximum(depth - mean, 0), 0.35, 1).astype(np.float32)


def draw(
        person: Dressed, look: Look, anatomy: Anatomy, light: np.ndarray, window: Window,
        picture: np.ndarray, closeness: np.ndarray) -> None:
    """
    Render one person over what is there already.

    picture (H, W, 4) uint8 and closeness (H, W) float32 are read and written, so that several
    people drawn one after the other hide each other rightly.
    """
    points = np.float32(
        person.vertices[:, :2] / person.vertices[:, 2:] * window.focal + window.centre)
    near = np.float32(1.0 / np.maximum(person.vertices[:, 2], 0.05))
    triangles = np.full(closeness.shape, -1, np.int32)
    rasterize(points, near, person.faces, triangles, closeness)
    view = shadow_view(light, person.vertices, _SHADOW_PX)
    lit = person.vertices @ view[:, :3].T + view[:, 3]
    shadow = np.zeros((_SHADOW_PX, _SHADOW_PX), np.float32)
    rasterize(np.ascontiguousarray(lit[:, :2]), np.ascontiguousarray(lit[:, 2]), person.faces,
              np.empty(shadow.shape, np.int32), shadow)
    shade(triangles, points, near, person.faces, person.vertices, person.normals,
          person.attributes, person.parts, look.cloths, look.cuts, anatomy.face,
          anatomy.features, float(anatomy.joints[12][1]), light, shadow, view,
          _open_sky(closeness), look.seed, tone_curve(), picture)


def rendered_keypoints(
        points: np.ndarray, window: Window, closeness: np.ndarray) -> np.ndarray:
    """Return 1 where the depth buffer shows keypoint `points` (96, 3) or its skin, else 0."""
    tolerance = np.concatenate([_DEPTH_OF_JOINT, np.full(67, 0.05, np.float32)])
    pixels = np.round(points[:, :2] / points[:, 2:] * window.focal + window.centre).astype(int)
    height, width = closeness.shape
    inside = np.all((pixels >= 0) & (pixels < (width, height)), axis=1)
    x, y = np.clip(pixels[:, 0], 0, width - 1), np.clip(pixels[:, 1], 0, height - 1)
    depth = 1.0 / np.maximum(closeness[y, x], 1e-3)
    return (inside & (points[:, 2] < depth + tolerance)).astype(np.uint8)


def _outline(mask: np.ndarray) -> np.ndarray:
    """Outermost pixels `(32, 2)` of a mask in 32 directions."""
    spots = cv2.findNonZero(mask).reshape(-1, 2)
    return outermost(cv2.convexHull(spots).reshape(-1, 2).astype(np.float32))


def _tight(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixels within the bounding box of the person, flat, and that box as x, y, width, height."""
    x, y, w, h = cv2.boundingRect(np.ascontiguousarray(picture[..., 3]))
    return picture[y:y + h, x:x + w].reshape(-1, 4), np.int32([x, y, w, h])


def render_picture(
        body: SkinnedModel, anatomy: Anatomy, crowd: Crowd, i: int, rng: np.random.Generator,
        size: int, population: Population = Population()
        ) -> tuple[dict[str, np.ndarray], Window, np.ndarray]:
    """
    Dress and render person `i` of a crowd; `rng` draws clothes and light.

    Returns the columns of `Cutouts`, the window and its closeness `(size, size)`.
    """
    look, light = population.look(rng), population.light(rng, crowd.up[i])
    person = dress(body, anatomy, crowd, i, look)
    window = window_around(person.vertices, crowd.views, i, size)
    picture = np.zeros((size, size, 4), np.uint8)
    closeness = np.zeros((size, size), np.float32)
    draw(person, look, anatomy, light, window, picture, closeness)
    pixels, frame = _tight(picture)
    columns = {'pixels': pixels, 'frames': frame, 'focal': np.float32(window.focal),
               'centre': window.centre.astype(np.float32),
               'outline': _outline(picture[..., 3])}
    return columns, window, closeness


def render_one(
        body: BodyModel, anatomy: Anatomy, crowd: Crowd, i: int, rng: np.random.Generator,
        size: int, population: Population = Population()) -> dict[str, np.ndarray]:
    """As `render_picture`, with the markers and what of the keypoints is seen."""
    columns, window, closeness = render_picture(body, anatomy, crowd, i, rng, size, population)
    markers = crowd.vertices[i, body.marker_vertices]
    points = np.concatenate([crowd.joints3d[i], markers])
    return {**columns, 'markers3d': markers,
            'rendered': rendered_keypoints(points, window, closeness)}


def _render_chunk(
        body: BodyModel, anatomy: Anatomy, count: int, rng: np.random.Generator,
        size: int, population: Population) -> dict[str, list[np.ndarray]]:
    """Draw a whole chunk, so that its people do not depend on `count`, and render `count`."""
    betas, pose = draw_betas(rng, _CHUNK), population.poses(rng, _CHUNK)
    crowd = pose_crowd(body, pose, betas, population.views(rng, _CHUNK))
    rest = np.concatenate([body.rest_joints(betas), body.rest_leaves(betas)], axis=1)
    rows = [render_one(body, anatomy, crowd, i, rng, size, population) for i in range(count)]
    out = {name: [row[name] for row in rows] for name in rows[0]}
    known = {'rotmats': crowd.rotmats, 'betas': betas, 'transl': crowd.transl,
             'joints3d': crowd.joints3d, 'phi': twist_labels(crowd.rotmats, rest)}
    return {**out, **{name: list(values[:count]) for name, values in known.items()}}


def render_cutouts(
        body: BodyModel, count: int, seed: int, size: int = 320,
        population: Population = Population()) -> CutoutStore:
    """
    Render `count` people; the same arguments give the same people, and a longer store begins like
    a shorter one of its seed.

    body is the open body or any SMPL-format model, size the side of the windows in pixels,
    population who is drawn.
    """
    if count < 1 or size < 32:
        raise SyntheticError(f'count={count}, size={size}; expected at least 1 person and 32 px')
    anatomy, columns = study(body), {}
    for chunk, first in enumerate(range(0, count, _CHUNK)):
        rng = np.random.default_rng([seed, chunk])
        rows = _render_chunk(body, anatomy, min(_CHUNK, count - first), rng, size, population)
        for name, values in rows.items():
            columns.setdefault(name, []).extend(values)
    return CutoutStore.of(columns, size)
