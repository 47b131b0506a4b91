# SPDX-License-Identifier: Apache-2.0
"""A start for the heads that knows where the cells of a map lie. Needs torch."""

from __future__ import annotations

import pytest
import torch

from hmr_ros.networks.mgil import build_pose, PoseNetwork, PoseVariant
from hmr_ros.perception import simcc
from hmr_ros.training.errors import TrainingError
from hmr_ros.training.mgil.marginal_heads import read_marginals


def logits(network: PoseNetwork, maps: torch.Tensor) -> dict[str, torch.Tensor]:
    flat = maps.flatten(-2)
    return {'simcc_x': network.mlp_head_x(flat).detach().numpy(),
            'simcc_y': network.mlp_head_y(flat).detach().numpy()}


@pytest.mark.parametrize('variant', [
    PoseVariant('tiny', height=32, width=64), PoseVariant('tiny', height=64, width=64),
    PoseVariant('tiny', height=128, width=64, split_ratio=2)])
def test_a_keypoint_is_read_where_its_map_is_hot(variant: PoseVariant) -> None:
    network = build_pose(variant)
    read_marginals(network)
    rows, columns = variant.height // 4, variant.width // 4
    for row, column in [(0, 0), (rows - 1, columns - 2), (rows // 2, 1)]:
        maps = torch.zeros(1, variant.keypoints, rows, columns)
        maps[..., row, column] = 50
        vectors = simcc.probabilities(logits(network, maps))
        points, _ = simcc.decode(vectors, variant.split_ratio)
        middle = torch.tensor([4 * column + 1.5, 4 * row + 1.5])
        # Anywhere in the cell: at the picture's border its last bins are its own alone.
        assert abs(torch.from_numpy(points[0, 0]) - middle).max() < 2.5


def test_all_cells_alike_say_nothing() -> None:
    network = build_pose(PoseVariant('tiny'))
    read_marginals(network)
    for vector in logits(network, torch.full((1, 17, 16, 16), 0.7)).values():
        assert vector.std() < 1e-5


def test_a_mirrored_map_gives_the_mirrored_vector() -> None:
    network = build_pose(PoseVariant('tiny'))
    read_marginals(network)
    maps = torch.rand(2, 17, 16, 16, generator=torch.Generator().manual_seed(0))
    shift = simcc.flip_shift_of(network.variant.split_ratio)
    plain, turned = logits(network, maps), logits(network, maps.flip(-1))
    torch.testing.assert_close(
        torch.tensor(turned['simcc_x'][..., ::-1].copy())[..., shift:],
        torch.tensor(plain['simcc_x'])[..., :-shift])


def test_several_maps_of_a_keypoint_are_refused() -> None:
    network = build_pose(PoseVariant('resnet50_upsample_free', height=32, width=32))
    with pytest.raises(TrainingError, match='resnet50_upsample_free reads several maps'):
        read_marginals(network)
