# SPDX-License-Identifier: Apache-2.0
"""A few steps of each run of the ablation on small crops."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip('torch', reason='training needs torch')
pytest.importorskip('lightning', reason='training needs lightning')
from hmr_ros.body import load_body  # noqa: E402
from hmr_ros.training.errors import TrainingError  # noqa: E402
from hmr_ros.training.rsc_net.config import METHODS, read_config, RscConfig  # noqa: E402
from hmr_ros.training.rsc_net.data import training_loader  # noqa: E402
from hmr_ros.training.rsc_net.module import RscModule  # noqa: E402
from hmr_ros.training.rsc_net.train import train  # noqa: E402
from hmr_ros.training.rsc_net.weights import build_network, read_network, RscFacts  # noqa: E402
from hmr_ros.training.synthetic import render_cutouts  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.fixture(scope='module')
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp('stores') / 'people.npz'
    render_cutouts(load_body(), 6, seed=4, size=96).save(path)
    return str(path)


def test_whole_method_in_one_run(store: str, tmp_path: Path) -> None:
    config = RscConfig((store,), length=32, size=64, learning_rate=1e-3)
    path = train(config, tmp_path, workers=0)
    network, facts = read_network(path)
    alphas = torch.stack(list(network.backbone.alphas))
    assert facts == RscFacts() and alphas.shape == (5, 16)
    # Each row set out from the row before and went its own way.
    assert not torch.equal(alphas[3], alphas[4]) and (alphas != 1).any(1).all()
    curve = (tmp_path / 'curves' / 'version_0' / 'metrics.csv').read_text().splitlines()
    assert 'basic_4' in curve[0] and len(curve) > 4


@pytest.mark.parametrize('method', ['plain', 'Ba', 'Ba+SS', 'RA'])
def test_runs_of_the_ablation(method: str, store: str) -> None:
    config = RscConfig((store,), method=method, length=32, size=64, progressive=False)
    torch.manual_seed(0)
    module = RscModule(config, build_network(RscFacts()), load_body())
    batch = next(iter(training_loader(config, 0)))
    assert len(batch['images']) == METHODS[method].resolutions
    module.log = lambda *args, **kwargs: None
    module.training_step(batch, 0).backward()
    moved = [alpha.grad is not None for alpha in module.network.backbone.alphas]
    assert moved == [METHODS[method].own_rows] * 5
    assert all(parameter.grad is None for parameter in module.contrast.parameters())


def test_the_compact_backbone_trains_and_goes_on(store: str, tmp_path: Path) -> None:
    config = RscConfig((store,), length=32, backbone='compact', size=64,
                       start_engine='keypoint_guided', skeletons=60, skeleton_steps=2)
    path = train(config, tmp_path / 'first', workers=0)
    network, facts = read_network(path)
    assert (facts.backbone, facts.features, network.features) == ('compact', 672, 672)
    again = replace(config, start_engine=None, skeletons=0, start_from=str(path), method='RA')
    after, _ = read_network(train(again, tmp_path / 'second', workers=0))
    name = 'backbone.pyramid.layer4.1.conv2.weight'
    moved = (after.state_dict()[name] - network.state_dict()[name]).abs().max()
    assert 0 < moved < 0.05
    with pytest.raises(TrainingError, match='has the backbone compact'):
        train(replace(again, backbone='resnet50'), tmp_path / 'third', workers=0)


def test_skeletons_alone_change_the_regressor_alone(store: str, tmp_path: Path) -> None:
    begun = RscConfig((store,), length=0, backbone='compact', start_engine='keypoint_guided')
    before, _ = read_network(train(begun, tmp_path / 'before', workers=0))
    after, _ = read_network(train(
        replace(begun, skeletons=60, skeleton_steps=3), tmp_path / 'after', workers=0))
    for (name, old), new in zip(before.state_dict().items(), after.state_dict().values()):
        taught = name.startswith('regressor.') and '.init_' not in name
        assert torch.equal(old, new) is not taught, name
    # The means of the picture are not read yet: their columns are learned with pictures.
    assert not after.regressor.fc1.weight[:, :384].any()


def test_a_resumed_run_keeps_the_rows_that_it_had(
        store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = RscConfig((store,), length=640)
    module = RscModule(config, build_network(RscFacts()), load_body())
    alphas = module.network.backbone.alphas
    with torch.no_grad():
        for row, alpha in enumerate(alphas):
            alpha.fill_(row)
    for step, expected in ((config.schedule.stages[3].first + 1, [0, 1, 2, 3, 4]),
                           (config.schedule.stages[3].first, [0, 1, 2, 3, 3])):
        monkeypatch.setattr(RscModule, 'global_step', step)
        module.on_train_batch_start({}, 0)
        assert [int(alpha[0]) for alpha in alphas] == expected


def test_losses_are_float32_whatever_the_network_computes_in(store: str) -> None:
    config = RscConfig((store,), length=32, size=64, progressive=False)
    torch.manual_seed(0)
    module = RscModule(config, build_network(RscFacts()).eval(), load_body())
    batch = next(iter(training_loader(config, 0)))
    module.log = lambda *args, **kwargs: None
    with torch.no_grad():
        whole = module.training_step(batch, 0)
        module.queue = type(module.queue)()
        with torch.autocast('cpu', torch.bfloat16):
            mixed = module.training_step(batch, 0)
    assert mixed.dtype == torch.float32
    assert mixed.item() == pytest.approx(whole.item(), rel=0.02)


@pytest.mark.parametrize('text, named', [
    ('stores: [a]\nmethod: XX', "method .* 'XX'"), ('stores: [a]\nsize: 100', 'size .* 100'),
    ('stores: [a]\nbackbone: vgg', "backbone .* 'vgg'"),
    ('stores: [a]\nstart_engine: keypoint_guided', 'start_engine'),
    ('stores: [a]\nbackbone: compact\nstart_from: b\nskeletons: 5', 'skeletons'),
    ('stores: [a]\nbatch: 3', 'batch'), ('method: RA', 'must name stores')])
def test_bad_configuration_is_named(text: str, named: str, tmp_path: Path) -> None:
    path = tmp_path / 'stage.yaml'
    path.write_text(text)
    with pytest.raises(TrainingError, match=named):
        read_config(path)
