# SPDX-License-Identifier: Apache-2.0
"""A whole, tiny training stage, and what it refuses."""

from __future__ import annotations

import csv
from dataclasses import replace
import itertools
import math
from pathlib import Path

import pytest

torch = pytest.importorskip('torch', reason='training needs torch')
from hmr_ros.body import load_body  # noqa: E402
from hmr_ros.training.errors import TrainingError  # noqa: E402
from hmr_ros.training.keypoint_guided.config import read_config, StageConfig  # noqa: E402
from hmr_ros.training.keypoint_guided.data import training_loader  # noqa: E402
from hmr_ros.training.keypoint_guided.module import KeypointGuidedModule  # noqa: E402
from hmr_ros.training.keypoint_guided.train import train  # noqa: E402
from hmr_ros.training.keypoint_guided.weights import load_weights, read_network  # noqa: E402
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


def curve(folder: Path) -> dict[int, float]:
    """Loss by step of all the runs below a folder, the last run counts."""
    losses = {}
    for path in sorted(folder.glob('curves/version_*/metrics.csv')):
        with path.open() as file:
            losses.update({int(row['step']): float(row['loss']) for row in csv.DictReader(file)})
    return losses


def test_resumed_stage_goes_on_as_if_uninterrupted(
        store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = StageConfig((str(store),), size=64, batch=4, steps=4, checkpoint_every=2,
                         early_weight=1.0, frozen_blocks=2, freeze_after=1)
    whole, parts = tmp_path / 'whole', tmp_path / 'parts'
    weights = train(config, whole, workers=0)
    start = KeypointGuidedModule.on_train_batch_start

    def stop(self: KeypointGuidedModule, batch: object, index: int) -> None:
        if self.global_step == 3:
            raise KeyboardInterrupt
        start(self, batch, index)

    with monkeypatch.context() as patch, pytest.raises((KeyboardInterrupt, SystemExit)):
        patch.setattr(KeypointGuidedModule, 'on_train_batch_start', stop)
        train(config, parts, workers=0)
    resumed = train(config, parts, workers=1, resume=str(parts / 'last.ckpt'))
    losses = curve(whole)
    assert sorted(losses) == [0, 1, 2, 3]
    assert curve(parts) == pytest.approx(losses, rel=1e-4)
    first, second = (KeypointGuidedModule(config) for _ in range(2))
    load_weights(first, weights)
    load_weights(second, resumed)
    for a, b in zip(first.parameters(), second.parameters()):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-3)


def test_what_is_no_checkpoint_cannot_be_resumed(store: Path, tmp_path: Path) -> None:
    path = tmp_path / 'last.ckpt'
    path.write_bytes(b'no checkpoint')
    with pytest.raises(TrainingError, match='last.ckpt'):
        train(StageConfig((str(store),), size=64, batch=2, steps=1), tmp_path, 0, str(path))


def test_batches_do_not_depend_on_the_workers(store: Path) -> None:
    config = StageConfig((str(store),), size=64, batch=2)
    alone = itertools.islice(iter(training_loader(config, 0)), 4)
    together = itertools.islice(iter(training_loader(config, 2, first=1)), 3)
    for a, b in zip(list(alone)[1:], together):
        assert all(torch.equal(a[name], b[name]) for name in a)


def test_trainer_processes_share_the_batches(
        store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = StageConfig((str(store),), size=64, batch=2)
    alone = list(itertools.islice(iter(training_loader(config, 0)), 4))
    monkeypatch.setenv('WORLD_SIZE', '2')
    for rank in range(2):
        monkeypatch.setenv('RANK', str(rank))
        own = itertools.islice(iter(training_loader(config, 0)), 2)
        for a, b in zip(alone[rank::2], own):
            assert torch.equal(a['image'], b['image'])


@pytest.mark.parametrize('changes', [
    {'losses': 'sheet', 'precision': 'bf16-mixed'}, {'losses': 'sheet', 'tokens': 29},
    {'backbone': 'resnet34'},
    {'losses': 'pretraining'}, {'backbone': 'compact', 'precision': 'bf16-mixed'}], ids=str)
def test_one_step_of_every_recipe(
        changes: dict[str, object], store: Path, tmp_path: Path) -> None:
    config = StageConfig((str(store),), size=256, batch=2, steps=1, **changes)
    weights = train(config, tmp_path, workers=0)
    (loss,) = curve(tmp_path).values()
    assert math.isfinite(loss)
    network, facts = read_network(weights)
    assert (facts.backbone, facts.tokens) == (config.backbone, config.tokens)
    assert all(torch.isfinite(p).all() for p in network.parameters())


@pytest.mark.slow
@pytest.mark.parametrize('changes, terms', [
    ({'losses': 'sheet', 'early_weight': 1.0, 'settled_after': 1000}, {
        'keypoints', 'pose', 'twist', 'shape', 'camera', 'early_maps', 'heatmaps', 'loss'}),
    ({'backbone': 'compact'}, {
        'keypoints', 'twist', 'shape', 'camera', 'maps', 'first', 'loss'})],
    ids=('sheet', 'compact'))
def test_two_hundred_steps_lower_every_term(
        changes: dict[str, object], terms: set[str], store: Path, tmp_path: Path) -> None:
    config = StageConfig((str(store),), size=64, batch=6, steps=200, **changes)
    train(config, tmp_path, workers=1)
    path, = tmp_path.glob('curves/*/metrics.csv')
    with path.open() as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    assert set(rows[0]) - {'step', 'epoch'} >= terms
    for term in terms:
        first, last = (sum(row[term] for row in part) / len(part) for part in
                       (rows[:4], rows[-10:]))
        assert last < first, term


def test_trunk_is_fitted_in_the_end(store: Path, tmp_path: Path) -> None:
    config = StageConfig((str(store),), size=64, batch=8, steps=1, fit_trunk=30)
    plain = train(replace(config, fit_trunk=0), tmp_path / 'plain', workers=0)
    fitted = train(config, tmp_path / 'fitted', workers=0)
    (a, _), (b, _) = read_network(plain), read_network(fitted)
    assert not torch.equal(a.trunk.fc1.weight[:59], b.trunk.fc1.weight[:59])
    torch.testing.assert_close(a.backbone.head.weight, b.backbone.head.weight)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    import safetensors.torch
    path = tmp_path / 'weights.safetensors'
    safetensors.torch.save_file({'backbone.weight': torch.zeros(1)}, path)
    module = KeypointGuidedModule(StageConfig(()))
    with pytest.raises(TrainingError, match='(?s)do not fit this network.*backbone.weight'):
        load_weights(module, path)


@pytest.mark.parametrize('text, message', [
    ('stores: [a.npz]\nsteppes: 3\n', 'steppes'), ('size: 256\n', 'must name stores'),
    ('stores: [', 'cannot be read'), ('stores: [a.npz]\nbackbone: resnet18\n', 'resnet34'),
    ('stores: [a.npz]\nbackbone: compact\ntokens: 29\n', 'tokens .* compact is trained with 96')])
def test_bad_configuration_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / 'stage.yaml'
    path.write_text(text)
    with pytest.raises(TrainingError, match=message):
        read_config(path)
