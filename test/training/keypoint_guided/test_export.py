# SPDX-License-Identifier: Apache-2.0
"""Which weights may become an engine for which body."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip('torch', reason='export needs torch')
from hmr_ros.body import load_body  # noqa: E402
from hmr_ros.networks.keypoint_guided import KeypointGuided  # noqa: E402
from hmr_ros.training.errors import TrainingError  # noqa: E402
from hmr_ros.training.keypoint_guided.export import export_engine  # noqa: E402
from hmr_ros.training.keypoint_guided.weights import (  # noqa: E402
    read_facts, read_network, save_weights, WeightsFacts)

pytestmark = pytest.mark.torch


def test_weights_of_another_body_are_not_exported(tmp_path: Path) -> None:
    facts = WeightsFacts(body_model='smpl')
    with pytest.raises(TrainingError, match="'smpl', but 'open_body'"):
        export_engine(KeypointGuided(), load_body(), tmp_path, 'mixed', facts=facts)
    assert not list(tmp_path.iterdir())


def test_facts_travel_with_the_weights(tmp_path: Path) -> None:
    facts = WeightsFacts('resnet34', 29, (0.1, 0.2, 0.3), (1.0, 2.0, 3.0), 'known_box', 'smpl')
    network = KeypointGuided(facts.variant)
    state = {f'network.{name}': value for name, value in network.state_dict().items()}
    path = save_weights(state, tmp_path / 'weights.safetensors', facts)
    again, read = read_network(path)
    assert read == facts
    for a, b in zip(network.state_dict().values(), again.state_dict().values()):
        torch.testing.assert_close(a, b, atol=0, rtol=0)


@pytest.mark.parametrize('header', ['{', '[1]', '{"unknown": 1}'])
def test_damaged_header_is_refused(header: str, tmp_path: Path) -> None:
    import safetensors.torch
    path = tmp_path / 'weights.safetensors'
    safetensors.torch.save_file({'a': torch.zeros(1)}, path, {'keypoint_guided': header})
    with pytest.raises(TrainingError, match='weights.safetensors'):
        read_facts(path)
