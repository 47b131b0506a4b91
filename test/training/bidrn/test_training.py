# SPDX-License-Identifier: Apache-2.0
"""Trainings of the whole body: they learn, resume, begin as told and leave weights that load."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
import itertools
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='training needs torch')
pytest.importorskip('lightning', reason='training needs lightning')
from torch.utils.data import DataLoader, IterableDataset  # noqa: E402
from whole_people import fabricated_batch, fabricated_body  # noqa: E402

from hmr_ros.body.whole_body import WholeBodyModel  # noqa: E402
from hmr_ros.networks.bidrn import build_network, compact, NAMED  # noqa: E402
from hmr_ros.networks.bidrn.binarization import BINARY_LAYERS, signs  # noqa: E402
from hmr_ros.training import weights_file  # noqa: E402
from hmr_ros.training.bidrn.beginning import (  # noqa: E402
    begin_as_engine, beginning, spread_latents)
from hmr_ros.training.bidrn.config import read_config, WholeBodyConfig  # noqa: E402
from hmr_ros.training.bidrn.losses import whole_body_losses  # noqa: E402
from hmr_ros.training.bidrn.module import shown, WholeBodyModule  # noqa: E402
from hmr_ros.training.bidrn.targets import Targets  # noqa: E402
from hmr_ros.training.bidrn.train import fit  # noqa: E402
from hmr_ros.training.bidrn.weights import (  # noqa: E402
    read_network, save_weights, WholeBodyFacts)
from hmr_ros.training.engine_start import _convolutions  # noqa: E402
from hmr_ros.training.errors import TrainingError  # noqa: E402
from hmr_ros.training.keypoint_guided.weights import WeightsFacts  # noqa: E402
from hmr_ros.training.trainer import build_trainer  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings('ignore::UserWarning')]
CONFIG = WholeBodyConfig(('people.npz',), batch=2, steps=6, learning_rate=2e-3,
                         schedule='one_cycle', checkpoint_every=3)


class Fabricated(IterableDataset):
    """Batches by number, as those of real trainings."""

    def __init__(self, body: WholeBodyModel, first: int = 0) -> None:
        self.body, self.first = body, first

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        number = self.first
        while True:
            yield fabricated_batch(self.body, compact('bidrn').sizes, 2, number % 3)
            number += 1


@pytest.fixture
def body(tmp_path: Path) -> WholeBodyModel:
    return fabricated_body(tmp_path)


def trained(body: WholeBodyModel, config: WholeBodyConfig, out: Path, first: int = 0,
            resume: str | None = None) -> Path:
    data = Fabricated(body, first)
    return fit(config, DataLoader(data, batch_size=None), data, body, out, resume)


@pytest.mark.parametrize('row', ['bidrn', 'hand4whole', 'react'])
def test_training_learns(row: str, body: WholeBodyModel) -> None:
    config = replace(CONFIG, row=row)
    torch.manual_seed(0)
    network = build_network(config.variant)
    module = WholeBodyModule(config, network, body)
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    batch, plan = next(iter(Fabricated(body))), network.variant.sizes

    def loss() -> torch.Tensor:
        found = network(shown(batch['image']))
        return sum(whole_body_losses(
            found, Targets.of(batch, plan), module.layer, plan).values())
    values = []
    for _ in range(12):
        optimizer.zero_grad()
        values.append(loss())
        values[-1].backward()
        optimizer.step()
    assert all(p.grad is not None and bool(torch.isfinite(p.grad).all())
               for p in network.parameters())
    assert float(values[-1].detach()) < 0.85 * float(values[0].detach())


def test_a_resumed_training_goes_on_as_if_it_had_not_stopped(
        body: WholeBodyModel, tmp_path: Path) -> None:
    whole = trained(body, CONFIG, tmp_path / 'whole')
    path = trained(body, CONFIG, tmp_path / 'resumed', 3, _first_half(body, tmp_path / 'half'))
    ours, theirs = (weights_file.tensors_of(file) for file in (whole, path))
    for name, value in ours.items():
        torch.testing.assert_close(theirs[name], value, rtol=1e-4, atol=1e-5, msg=name)
    network, facts = read_network(path)
    assert (facts.row, facts.body_model) == ('bidrn', body.name)
    assert network.variant == compact('bidrn')


def _first_half(body: WholeBodyModel, folder: Path) -> str:
    data = list(itertools.islice(Fabricated(body), 3))
    torch.manual_seed(CONFIG.seed)
    network = beginning(CONFIG, data).to(memory_format=torch.channels_last)
    build_trainer(CONFIG, folder, CONFIG.steps, checkpoint_every=3).fit(
        WholeBodyModule(CONFIG, network, body), DataLoader(data, batch_size=None))
    return str(folder / 'last.ckpt')


def test_a_network_of_floats_begins_as_the_engine(body: WholeBodyModel) -> None:
    network = build_network(compact('hand4whole'))
    begin_as_engine(network, 'keypoint_guided', Fabricated(body))
    network.eval()
    image = torch.rand(1, 3, 64, 64)
    mean, std = (torch.tensor(values)[:, None, None] for values in (
        WeightsFacts().mean, WeightsFacts().std))
    weight, bias = map(torch.from_numpy, _convolutions('keypoint_guided')['backbone.conv1'])
    theirs = torch.nn.functional.conv2d((image - mean) / std, weight, bias, 2)
    for encoder in (network.backbone, network.hand_roi_net.backbone,
                    network.face_roi_net.backbone):
        # Behind the border of 3 pixels, which is padded otherwise.
        ours = encoder.bn1(torch.nn.functional.conv2d(image, encoder.conv1.weight, None, 2))
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=2e-3)
        x = torch.rand(1, 48, 16, 16)
        found = encoder.layer1(x)
        expected = x
        for block in ('0', '1'):
            expected = torch.relu(expected + convolved(
                torch.relu(convolved(expected, f'backbone.layer1.{block}.conv1')),
                f'backbone.layer1.{block}.conv2'))
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=2e-3)


def convolved(x: torch.Tensor, path: str) -> torch.Tensor:
    weight, bias = map(torch.from_numpy, _convolutions('keypoint_guided')[path])
    return torch.nn.functional.conv2d(x, weight, bias, 1, 1)


def test_a_binary_network_begins_with_the_engines_signs(body: WholeBodyModel) -> None:
    config = replace(CONFIG, start_engine='keypoint_guided', latent_spread=1.0)
    network = beginning(config, Fabricated(body))
    engine = _convolutions('keypoint_guided')
    for encoder in (network.backbone, network.hand_roi_net.backbone):
        layer = encoder.layer2[0].conv1
        kernel = torch.from_numpy(engine['backbone.layer2.0.conv1'][0])
        assert torch.equal(signs(layer.weight), signs(kernel))
        share = float((layer.weight.abs() < 1).float().mean())
        assert share == pytest.approx(0.99, abs=0.002)
    fresh = [m for m in network.backbone.layer3.modules()
             if isinstance(m, torch.nn.BatchNorm2d)]
    assert all(bool((m.weight == 1).all()) for m in fresh)


def test_latents_spread_without_a_change_of_signs() -> None:
    network = build_network(compact('bnn'))
    before = {name: signs(value) for name, value in network.named_parameters()}
    spread_latents(network, 0.5)
    layers = [m for m in network.modules() if isinstance(m, BINARY_LAYERS)]
    assert layers
    for layer in layers:
        np.testing.assert_allclose(layer.weight.detach().abs().flatten().quantile(0.99), 0.5,
                                   rtol=0.02)
    assert all(torch.equal(signs(value), before[name])
               for name, value in network.named_parameters())


def test_binary_weights_begin_as_those_of_floats(body: WholeBodyModel, tmp_path: Path) -> None:
    """Dense weights copy one to one (sheet, section 5)."""
    floats = build_network(compact('hand4whole'))
    facts = WholeBodyFacts('hand4whole', asdict(floats.variant), body.name)
    path = save_weights(floats.state_dict(), tmp_path / 'floats.safetensors', facts)
    network = beginning(replace(CONFIG, start_from=str(path)), Fabricated(body))
    ours, theirs = network.state_dict(), floats.state_dict()
    common = [name for name in theirs if name in ours and ours[name].shape == theirs[name].shape]
    assert set(theirs) == set(common)
    assert all(torch.equal(ours[name], theirs[name]) for name in common)


@pytest.mark.parametrize(('content', 'message'), [
    ('stores: [a]\nrow: bdrn', 'row .* allowed: hand4whole'),
    ('stores: [a]\nbatch: 1', 'batch .* allowed: 2 or more'),
    ('stores: [a]\nplan: published\nstart_engine: keypoint_guided', 'plan .* compact'),
    ('row: bidrn', 'must name stores')])
def test_wrong_configurations_are_named(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / 'wrong.yaml'
    path.write_text(content)
    with pytest.raises(TrainingError, match=message):
        read_config(path)


@pytest.mark.parametrize('row', list(NAMED))
def test_every_row_can_be_chosen(row: str, tmp_path: Path) -> None:
    path = tmp_path / 'row.yaml'
    path.write_text(f'stores: [a]\nrow: {row}\nrecipe: {{blur: 0.5}}')
    config = read_config(path)
    assert config.variant == compact(row)
    assert replace(config, plan='published').variant == NAMED[row]
