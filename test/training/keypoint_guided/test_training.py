# SPDX-License-Identifier: Apache-2.0
"""A whole, tiny training stage, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip('torch', reason='training needs torch')
from hmr_ros.body import load_body  # noqa: E402
from hmr_ros.training.errors import TrainingError  # noqa: E402
from hmr_ros.training.keypoint_guided.config import read_config, StageConfig  # noqa: E402
from hmr_ros.training.keypoint_guided.module import KeypointGuidedModule  # noqa: E402
from hmr_ros.training.keypoint_guided.train import load_weights, train  # noqa: E402
from hmr_ros.training.synthetic import render_cutouts  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.fixture(scope='module')
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('store') / 'people.npz'
    render_cutouts(load_body(), 6, seed=4, size=128).save(path)
    return path


def test_stage_trains_and_writes_weights(store: Path, tmp_path: Path) -> None:
    config = StageConfig((str(store),), size=64, batch=4, steps=4, learning_rate=1e-3)
    weights = train(config, tmp_path, workers=0)
    start, trained = KeypointGuidedModule(config), KeypointGuidedModule(config)
    load_weights(trained, weights)
    changed = [not torch.equal(a, b) for a, b in zip(start.parameters(), trained.parameters())]
    assert sum(changed) > 0.9 * len(changed)
    assert all(torch.isfinite(p).all() for p in trained.parameters())


def test_frozen_blocks_stay(store: Path, tmp_path: Path) -> None:
    config = StageConfig((str(store),), size=64, batch=4, steps=2, frozen_blocks=3)
    trained = KeypointGuidedModule(config)
    load_weights(trained, train(config, tmp_path, workers=0))
    start = KeypointGuidedModule(config)
    for name, value in start.network.backbone.named_parameters():
        same = torch.equal(value, trained.network.backbone.get_parameter(name))
        if name.startswith(('stem.', 'blocks.0.', 'blocks.1.', 'blocks.2.')):
            assert same, name


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    import safetensors.torch
    path = tmp_path / 'weights.safetensors'
    safetensors.torch.save_file({'backbone.weight': torch.zeros(1)}, path)
    module = KeypointGuidedModule(StageConfig(()))
    with pytest.raises(TrainingError, match='(?s)do not fit this network.*backbone.weight'):
        load_weights(module, path)


@pytest.mark.parametrize('text, message', [
    ('stores: [a.npz]\nsteppes: 3\n', 'steppes'), ('size: 256\n', 'must name stores'),
    ('stores: [', 'cannot be read')])
def test_bad_configuration_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / 'stage.yaml'
    path.write_text(text)
    with pytest.raises(TrainingError, match=message):
        read_config(path)
