# SPDX-License-Identifier: Apache-2.0
"""
The user's own scans, as 2K2K, THuman2.0 and RenderPeople lay them out, before the camera.

A folder holds one folder for each scan, with a mesh (.obj with its texture, or .ply with colours at
its vertices), y up, the face towards z, and the joints of the digitizer in the same axes and units
as an array (31, 3) in `joints3d.npy`. Sheet, section 4.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from hmr_ros.perception.digitizer.depth import focal_length
from hmr_ros.perception.digitizer.joints import JOINTS
from hmr_ros.training.digitizer_2k2k.scans import coarser, FINER, pixels_of, place, Scan, scan_of
from hmr_ros.training.errors import TrainingError
from hmr_ros.training.synthetic.lights import draw_light, tone_curve
from hmr_ros.training.synthetic.rasterizer import rasterize, vertex_normals
from hmr_ros.training.synthetic.shading import GROUND, KEY, KEY_COLOUR, SKY, STRENGTHS

#: turns of a scan before the camera (sheet, section 4).
YAWS_DEG = tuple(range(-30, 31, 10))
_JOINTS_FILE = 'joints3d.npy'
_MESHES = ('*.obj', '*.ply')
_UP = np.float64([0, -1, 0])


@dataclass(frozen=True)
class Scanned:
    """A scan: vertices (V, 3) and joints (31, 3) float64, faces (F, 3), colours (V, 3) 0 to 1."""

    vertices: np.ndarray
    faces: np.ndarray
    colours: np.ndarray
    joints: np.ndarray


def scans_of_folder(folder: str | Path, resolution: int, seed: int) -> Iterator[Scan]:
    """
    Draw every scan of a folder from each of YAWS_DEG, in random light.

    Raises TrainingError that names a file which is missing or wrong.
    """
    folders = sorted(path for path in Path(folder).glob('*') if path.is_dir())
    if not folders:
        raise TrainingError(f'{folder} has no folders of scans; expected one folder for each scan')
    for number, path in enumerate(folders):
        scanned = read_scan(path)
        for turn, yaw_deg in enumerate(YAWS_DEG):
            rng = np.random.default_rng([seed, 67, number, turn])
            yield seen(scanned, yaw_deg, rng, resolution)


def read_scan(folder: Path) -> Scanned:
    """Read mesh and joints of one scan; raises TrainingError that names the file."""
    import trimesh  # a scan of a million faces is no business of people who have none

    meshes = sorted(path for pattern in _MESHES for path in folder.glob(pattern))
    if len(meshes) != 1:
        raise TrainingError(f'{folder} has {len(meshes)} meshes; expected one .obj or .ply')
    try:
        mesh = trimesh.load(meshes[0], force='mesh', process=False)
        visual = mesh.visual.to_color() if mesh.visual.kind == 'texture' else mesh.visual
        colours = np.asarray(visual.vertex_colors)[:, :3] / 255
    except (ValueError, AttributeError, IndexError, KeyError) as error:
        raise TrainingError(f'scan {meshes[0]} cannot be read: {error}') from error
    if not len(mesh.faces) or len(colours) != len(mesh.vertices):
        raise TrainingError(f'scan {meshes[0]} has {len(mesh.faces)} faces and {len(colours)} '
                            f'colours of {len(mesh.vertices)} vertices; expected one for each')
    return Scanned(np.asarray(mesh.vertices, np.float64), np.asarray(mesh.faces, np.int32),
                   colours, _read_joints(folder / _JOINTS_FILE))


def _read_joints(path: Path) -> np.ndarray:
    try:
        joints = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise TrainingError(
            f'joints {path} cannot be read: {error}; expected an array {(len(JOINTS), 3)} of the '
            'joints in the axes of the scan') from error
    if joints.shape != (len(JOINTS), 3):
        raise TrainingError(
            f'joints {path} have shape {joints.shape}; expected {(len(JOINTS), 3)}')
    return joints.astype(np.float64)


def seen(scanned: Scanned, yaw_deg: float, rng: np.random.Generator, resolution: int) -> Scan:
    """Scan the mesh turned by `yaw_deg` about y, in random light without shadows."""
    turn = Rotation.from_euler('y', yaw_deg, degrees=True).as_matrix().T * [1, -1, -1]
    vertices = scanned.vertices @ turn
    stand_at = place(vertices, scanned.faces, rng)
    vertices = stand_at.metres(vertices)
    image = _picture(vertices, scanned, draw_light(rng, _UP), resolution)
    joints = stand_at.metres(scanned.joints @ turn)
    return scan_of(image, vertices, scanned.faces, joints, stand_at.unit_m)


def _picture(
        vertices: np.ndarray, scanned: Scanned, light: np.ndarray, side: int) -> np.ndarray:
    fine = side * FINER
    points, near = pixels_of(vertices, fine), np.ascontiguousarray(1 / vertices[:, 2])
    triangles, closeness = np.full((fine, fine), -1, np.int32), np.zeros((fine, fine), np.float32)
    rasterize(points, near, scanned.faces, triangles, closeness)
    lit = _lit(vertex_normals(vertices, scanned.faces), scanned.colours, light)
    there = triangles >= 0
    picture = np.zeros((fine, fine, 3), np.uint8)
    corners = scanned.faces[triangles[there]]
    linear = _mixed(vertices[corners], lit[corners], there, fine)
    picture[there] = tone_curve()[np.clip(1023 * linear, 0, 1023).astype(int)]
    return coarser(picture, there)


def _lit(normals: np.ndarray, colours: np.ndarray, light: np.ndarray) -> np.ndarray:
    """Linear light `(V, 3)` that leaves vertices of `normals` and `colours` (V, 3)."""
    upward = 0.5 + 0.5 * normals @ _UP[:, None]
    ambient = upward * light[SKY] + (1 - upward) * light[GROUND]
    key = np.maximum(0, normals @ light[KEY][:, None]) * light[KEY_COLOUR]
    return colours ** 2.2 * (ambient + key) * light[STRENGTHS, 2]


def _mixed(
        corners: np.ndarray, values: np.ndarray, there: np.ndarray, side: int) -> np.ndarray:
    """Values of the corners (P, 3, 3) of the triangles behind P pixels, where their rays hit."""
    rows, columns = np.nonzero(there)
    rays = np.stack([columns - (side - 1) / 2, rows - (side - 1) / 2,
                     np.full(len(rows), focal_length(side))], 1)
    # The volumes that the ray spans with the edges opposite to the corners.
    weights = np.stack([np.sum(rays * np.cross(corners[:, k - 2], corners[:, k - 1]), 1)
                        for k in range(3)], 1)
    return np.einsum('pk,pkc->pc', weights / weights.sum(1, keepdims=True), values)
