# SPDX-License-Identifier: Apache-2.0
"""Weights files of mgil rebuild the network that they are of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip('torch', reason='networks need torch')

from hmr_ros.networks.mgil import build_pose, Downsampling, PoseNetwork, PoseVariant  # noqa: E402
from hmr_ros.training.errors import TrainingError  # noqa: E402
from hmr_ros.training.mgil.weights import PoseFacts, read_network, save_weights  # noqa: E402

pytestmark = pytest.mark.torch
VARIANT = PoseVariant('small', Downsampling('control', n_cii=1), 32, 64, 1.5, 16)


def saved(network: PoseNetwork, path: Path, facts: PoseFacts) -> Path:
    return save_weights(
        {f'network.{name}': value for name, value in network.state_dict().items()}, path, facts)


def test_network_and_facts_come_back(tmp_path: Path) -> None:
    network, facts = build_pose(VARIANT), PoseFacts.of(VARIANT, color_order='bgr', flip_shift=1)
    read, again = read_network(saved(network, tmp_path / 'w.safetensors', facts))
    assert again == facts and again.variant == read.variant == VARIANT
    assert all(torch.equal(value, read.state_dict()[name])
               for name, value in network.state_dict().items())


@pytest.mark.parametrize('changed, message', [
    ({'backbone': 'w64'}, 'no network of mgil.*w64'),
    ({'downsampling': {'kind': 'pool'}}, 'no network of mgil.*kind'),
    ({'downsampling': {'sort': 'spd'}}, 'no network of mgil.*sort'),
    ({'keypoints': 17}, 'do not fit')])
def test_other_facts_are_refused(
        changed: dict[str, object], message: str, tmp_path: Path) -> None:
    facts = replace(PoseFacts.of(VARIANT), **changed)
    path = saved(build_pose(VARIANT), tmp_path / 'w.safetensors', facts)
    with pytest.raises(TrainingError, match=message):
        read_network(path)
