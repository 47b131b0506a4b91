# SPDX-License-Identifier: Apache-2.0
"""The closed-form trunk."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='training needs torch')
from hmr_ros.networks.keypoint_guided.heads import FoldedTrunk, Trunk  # noqa: E402
from hmr_ros.training.keypoint_guided.linear_trunk import (  # noqa: E402
    fit_trunk, OUTPUTS, Recorded, ridge, SCALE, set_affine)

pytestmark = pytest.mark.torch
FEATURES = 80


def outputs(trunk: torch.nn.Module, features: np.ndarray) -> np.ndarray:
    """Outputs (N, 59) of a trunk."""
    with torch.no_grad():
        betas, cam, phi = trunk.eval()(torch.from_numpy(features).float())
    return torch.cat([betas, cam, phi.flatten(1)], 1).numpy()


def linear_world(noise: float = 0.0) -> tuple[Recorded, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(900, FEATURES)) * rng.uniform(0.01, 10, FEATURES) + 3
    weight, bias = rng.normal(size=(OUTPUTS, FEATURES)), rng.normal(size=OUTPUTS)
    weight[11:13], bias[11:13] = 0, 0
    targets = features @ weight.T + bias
    targets[:, SCALE] = np.abs(targets[:, SCALE]) + 1 if noise else targets[:, SCALE]
    return Recorded(features, targets + noise * rng.normal(size=targets.shape),
                    np.ones_like(targets)), weight, bias


def test_a_linear_world_is_found() -> None:
    recorded, weight, bias = linear_world()
    trunk = Trunk(FEATURES)
    explained = fit_trunk(trunk, recorded)
    assert min(explained.values()) > 0.9999 and set(explained) == {'betas', 'scale', 'twists'}
    expected = recorded.features @ weight.T + bias
    scale = np.abs(expected).max()
    for one in (trunk, FoldedTrunk(trunk)):
        np.testing.assert_allclose(outputs(one, recorded.features), expected, atol=3e-4 * scale)


def test_noise_is_not_learned() -> None:
    """With nothing to find, a strong ridge wins and the mean remains."""
    rng = np.random.default_rng(1)
    recorded = Recorded(rng.normal(size=(200, FEATURES)), rng.normal(size=(200, OUTPUTS)),
                        np.ones((200, OUTPUTS)))
    explained = fit_trunk(Trunk(FEATURES), recorded)
    assert all(-0.3 < value < 0.1 for value in explained.values())


def test_ridge_equals_weighted_least_squares() -> None:
    rng = np.random.default_rng(2)
    x, y, w = rng.normal(size=(60, 5)), rng.normal(size=(60, 2)), rng.uniform(0.1, 2, 60)
    matrix, offset = ridge(x, y, w, 0.0)
    design = np.concatenate([x, np.ones((60, 1))], axis=1) * np.sqrt(w)[:, None]
    expected, *_ = np.linalg.lstsq(design, y * np.sqrt(w)[:, None], rcond=None)
    np.testing.assert_allclose(np.concatenate([matrix.T, offset[None]]), expected, atol=1e-6)


def test_unlabelled_samples_do_not_count() -> None:
    recorded, weight, bias = linear_world()
    recorded.weights[::2] = 0
    recorded.targets[::2] = 1e3
    trunk = Trunk(FEATURES)
    fit_trunk(trunk, recorded)
    expected = recorded.features @ weight.T + bias
    found = outputs(trunk, recorded.features)
    np.testing.assert_allclose(found, expected, atol=3e-4 * np.abs(expected).max())


def test_spare_units_stay_and_constants_are_kept() -> None:
    trunk = Trunk(FEATURES)
    trunk.init_camera[:] = torch.tensor([0.9, 0.1, 0.2])
    spare = trunk.fc1.weight[OUTPUTS:].clone()
    weight, bias = np.zeros((OUTPUTS, FEATURES)), np.arange(OUTPUTS, dtype=float)
    set_affine(trunk, weight, bias)
    np.testing.assert_allclose(outputs(trunk, np.ones((1, FEATURES))), bias[None], atol=1e-6)
    torch.testing.assert_close(trunk.fc1.weight[OUTPUTS:], spare)
    torch.testing.assert_close(trunk.init_camera, torch.tensor([0.9, 0.1, 0.2]))
