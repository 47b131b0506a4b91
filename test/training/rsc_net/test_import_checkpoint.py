# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of RSC-Net, SPIN and VIBE, made here from the tables of the sheet (check 9)."""

from __future__ import annotations

from pathlib import Path
import re
from typing import Callable
import warnings

import pytest

torch = pytest.importorskip('torch', reason='importing checkpoints needs torch')
import safetensors.torch  # noqa: E402

from hmr_ros.training.errors import TrainingError  # noqa: E402
from hmr_ros.training.rsc_net.import_checkpoint import (  # noqa: E402
    import_checkpoint, release_view)
from hmr_ros.training.rsc_net.weights import read_network  # noqa: E402

pytestmark = pytest.mark.torch
State = dict[str, torch.Tensor]
Table = dict[str, tuple[int, ...]]
BLOCKS, WIDTHS = (3, 4, 6, 3), (64, 128, 256, 512)


def norm(name: str, channels: int) -> Table:
    parts = ('weight', 'bias', 'running_mean', 'running_var')
    return {**{f'{name}.{part}': (channels,) for part in parts},
            f'{name}.num_batches_tracked': ()}


def linear(name: str, out: int, inputs: int) -> Table:
    return {f'{name}.weight': (out, inputs), f'{name}.bias': (out,)}


def regressor_table() -> Table:
    return {'init_pose': (1, 144), 'init_shape': (1, 10), 'init_cam': (1, 3),
            **linear('fc1', 1024, 2205), **linear('fc2', 1024, 1024),
            **linear('decpose', 144, 1024), **linear('decshape', 10, 1024),
            **linear('deccam', 3, 1024)}


def block_table(name: str, inputs: int, width: int, first: bool) -> Table:
    table: Table = {}
    for i, (out, channels, kernel) in enumerate(
            ((width, inputs, 1), (width, width, 3), (4 * width, width, 1)), start=1):
        table[f'{name}.conv{i}.weight'] = (out, channels, kernel, kernel)
        table.update(norm(f'{name}.bn{i}', out))
    if first:
        table[f'{name}.downsample.0.weight'] = (4 * width, inputs, 1, 1)
        table.update(norm(f'{name}.downsample.1', 4 * width))
    return table


def backbone_table(middle: str) -> Table:
    table: Table = {'conv1.weight': (64, 3, 7, 7), **norm('bn1', 64)}
    inputs = 64
    for layer, (count, width) in enumerate(zip(BLOCKS, WIDTHS), start=1):
        for i in range(count):
            table.update(block_table(f'layer{layer}.{middle}{i}', inputs, width, i == 0))
            inputs = 4 * width
    return table


def release_table() -> Table:
    alphas = {f'layer{layer}.alphas.{row}': (count, 1, 1, 1, 1)
              for layer, count in enumerate(BLOCKS, start=1) for row in range(5)}
    return {**backbone_table('hmr_layer.'), **alphas, **regressor_table(),
            **linear('layer4_mlp.0', 1024, 2048), **linear('layer4_mlp.2', 256, 1024)}


def spin_table() -> Table:
    return {**backbone_table(''), **regressor_table()}


def vibe_table() -> Table:
    gru: Table = {}
    for layer, inputs in enumerate((2048, 1024)):
        for kind, width in (('ih', inputs), ('hh', 1024)):
            gru[f'encoder.gru.weight_{kind}_l{layer}'] = (3072, width)
            gru[f'encoder.gru.bias_{kind}_l{layer}'] = (3072,)
    return {**gru, **linear('encoder.linear', 2048, 1024),
            **{f'regressor.{key}': shape for key, shape in regressor_table().items()}}


def random_state(table: Table, seed: int = 0) -> State:
    generator = torch.Generator().manual_seed(seed)
    return {key: torch.tensor(7) if key.endswith('num_batches_tracked')
            else torch.rand(shape, generator=generator) * 0.02 + 0.01
            for key, shape in table.items()}


@pytest.fixture(scope='module')
def release() -> State:
    return random_state(release_table())


@pytest.fixture(scope='module')
def thin() -> State:
    """The release's keys and shapes in a file of a few kilobytes: all numbers are one."""
    return {key: torch.ones(()).expand(shape) for key, shape in release_table().items()}


@pytest.fixture(scope='module')
def spin() -> State:
    return random_state(spin_table())


@pytest.fixture(scope='module')
def vibe() -> State:
    return random_state(vibe_table())


def test_the_tables_have_the_keys_of_the_sheet(release: State, spin: State, vibe: State) -> None:
    assert (len(release), len(spin), len(vibe)) == (355, 331, 23)


def converted(content: object, folder: Path) -> State:
    torch.save(content, folder / 'theirs.pth')
    import_checkpoint(folder / 'theirs.pth', folder / 'ours.safetensors')
    return safetensors.torch.load_file(folder / 'ours.safetensors')


def power(state: State) -> float:
    """Sum of squares: tells a tensor that was lost or taken twice."""
    return sum(float((value.double() ** 2).sum()) for value in state.values())


LAYOUTS: dict[str, Callable[[State], object]] = {
    'flat': lambda s: s,
    'model, module.': lambda s: {
        'model': {f'module.{key}': value for key, value in s.items()}, 'epoch': 3,
        'dataset_perm': [2, 0, 1]}}


@pytest.mark.parametrize('layout', LAYOUTS)
def test_release_round_trip(layout: str, release: State, tmp_path: Path) -> None:
    """Every tensor where it belongs: back in the release's layout, nothing has changed."""
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        ours = converted(LAYOUTS[layout](release), tmp_path)
    again = release_view(ours)
    assert again.keys() == release.keys()
    for key, value in again.items():
        assert torch.equal(value, release[key]), key
    for alpha in range(5):
        theirs = [release[f'layer{layer}.alphas.{alpha}'].flatten() for layer in (1, 2, 3, 4)]
        assert torch.equal(ours[f'network.backbone.alphas.{alpha}'], torch.cat(theirs))


def test_release_comes_out_as_rsc_net(release: State, tmp_path: Path) -> None:
    converted(release, tmp_path)
    network, facts = read_network(tmp_path / 'ours.safetensors')
    assert facts.regressor_relu is True and network.regressor_relu
    assert facts.body_model == 'smpl' and facts.licence.startswith('unknown')
    for column in (0, 2047, 2048, 2191, 2192, 2201, 2202, 2204):
        check_fc1_column(network.regressor, release['fc1.weight'], column)


def check_fc1_column(regressor: torch.nn.Module, fc1: torch.Tensor, column: int) -> None:
    """A one-hot input at `column` of [phi | pose | betas | cam] picks that column of fc1."""
    seen = []
    hook = regressor.fc1.register_forward_hook(lambda _, __, out: seen.append(out))
    one_hot = torch.zeros(1, 2205)
    one_hot[0, column] = 1
    with torch.no_grad():
        for state in (one_hot, torch.zeros(1, 2205)):
            regressor.correction(state[:, :2048], state[:, 2048:])
    hook.remove()
    torch.testing.assert_close((seen[0] - seen[1])[0], fc1[:, column], atol=1e-6, rtol=0)


def test_the_head_is_optional(thin: State, tmp_path: Path) -> None:
    state = {key: value for key, value in thin.items() if not key.startswith('layer4_mlp')}
    state['layer1.alphas.0'] = torch.full((3, 1, 1, 1, 1), 2.0)
    ours = converted(state, tmp_path)
    assert not any(key.startswith('contrast.') for key in ours)
    assert power(ours) == pytest.approx(power(state), rel=1e-9)


def test_spin_has_no_alphas_and_no_activation(
        spin: State, release: State, tmp_path: Path) -> None:
    ours = converted({'model': spin, 'epoch': 1}, tmp_path)
    network, facts = read_network(tmp_path / 'ours.safetensors')
    assert facts.regressor_relu is False and not network.regressor_relu
    alphas = {key: value for key, value in ours.items() if '.alphas.' in key}
    assert len(alphas) == 5 and all((value == 1).all() for value in alphas.values())
    used = {key: value for key, value in ours.items() if key not in alphas}
    assert power(used) == pytest.approx(power(spin), rel=1e-9)
    torch.testing.assert_close(
        ours['network.backbone.layer3.4.bn2.bias'], spin['layer3.4.bn2.bias'], atol=0, rtol=0)
    torch.testing.assert_close(
        ours['network.regressor.init_camera'], spin['init_cam'][0], atol=0, rtol=0)


def test_vibe_generator(vibe: State, tmp_path: Path) -> None:
    licensed = {f'regressor.smpl.{name}': torch.zeros(2) for name in ('v_template', 'faces')}
    ours = converted({'epoch': 5, 'gen_state_dict': {**vibe, **licensed},
                      'disc_motion_state_dict': {'fc.weight': torch.zeros(1)}}, tmp_path)
    network, facts = read_network(tmp_path / 'ours.safetensors')
    assert facts.network == 'rsc_temporal' and facts.regressor_relu is False
    assert not network.regressor_relu
    assert power(ours) == pytest.approx(power(vibe), rel=1e-9)
    torch.testing.assert_close(network.gru.weight_hh_l1, vibe['encoder.gru.weight_hh_l1'])
    torch.testing.assert_close(network.regressor.betas.bias, vibe['regressor.decshape.bias'])
    check_fc1_column(network.regressor, vibe['regressor.fc1.weight'], 2048)


def without(state: State, key: str) -> State:
    return {name: value for name, value in state.items() if name != key}


KEY = 'layer2.hmr_layer.1.conv2.weight'
BAD = {
    'missing': (lambda s: without(s, KEY), KEY),
    'misshapen': (lambda s: {**s, KEY: s[KEY][:5]}, KEY),
    'not finite': (lambda s: {**s, KEY: s[KEY] / 0}, KEY),
    'extra': (lambda s: {**s, 'layer5.weight': s[KEY]}, 'layer5.weight'),
    'renamed twice': (lambda s: {**without(s, KEY), 'layer2.hmr_layer.hmr_layer.1.conv2.weight': 0
                                 * s[KEY]}, KEY),
    'no alpha': (lambda s: without(s, 'layer4.alphas.3'), 'layer4.alphas.3'),
    'flat alpha': (lambda s: {**s, 'layer4.alphas.3': torch.ones(3)}, 'layer4.alphas.3'),
    'half a head': (lambda s: without(s, 'layer4_mlp.2.bias'), 'layer4_mlp.2.bias'),
    'body data': (lambda s: {**s, 'smpl.v_template': torch.zeros(1)}, 'smpl.v_template'),
    'bidirectional': (lambda s: {'encoder.gru.weight_ih_l0_reverse': s[KEY]}, 'bidirectional'),
    'foreign': (lambda s: {'stem.weight': s[KEY]}, 'stem.weight')}


@pytest.mark.parametrize('fault', BAD)
def test_bad_checkpoints_are_refused_by_key(fault: str, thin: State, tmp_path: Path) -> None:
    change, key = BAD[fault]
    with pytest.raises(TrainingError, match=re.escape(key)):
        converted(change(thin), tmp_path)
    assert not (tmp_path / 'ours.safetensors').exists()


def test_vibe_of_another_size_is_refused(vibe: State, tmp_path: Path) -> None:
    key = 'encoder.gru.weight_hh_l0'
    with pytest.raises(TrainingError, match=key):
        converted({'gen_state_dict': {**vibe, key: torch.zeros(6144, 2048)}}, tmp_path)


def test_alphas_that_were_never_trained_are_told(thin: State, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match='all 80 alphas are 1'):
        converted(thin, tmp_path)
