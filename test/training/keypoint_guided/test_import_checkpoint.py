# SPDX-License-Identifier: Apache-2.0
"""The authors' checkpoints, made here from the table of the sheet (section 5, check 11)."""

from __future__ import annotations

import os
from pathlib import Path
import pickle

import pytest

torch = pytest.importorskip('torch', reason='importing checkpoints needs torch')
import safetensors.torch  # noqa: E402

from hmr_ros.networks.keypoint_guided.mgfenet import BLOCKS  # noqa: E402
from hmr_ros.training.errors import TrainingError  # noqa: E402
from hmr_ros.training.keypoint_guided.import_checkpoint import import_checkpoint  # noqa: E402
from hmr_ros.training.keypoint_guided.weights import read_network  # noqa: E402

pytestmark = pytest.mark.torch
State = dict[str, torch.Tensor]
#: width after the cascade is joined, and of the squeeze, of blocks 1 to 15 (sheet 2.1).
WIDE = (19, 64, 91, 72, 163, 163, 240, 283, 267, 267, 563, 755, 755, 672, 1203)
SQUEEZED = {4: 18, 5: 40, 6: 40, 11: 140, 12: 188, 13: 188, 14: 168, 15: 300}


def norm(channels: int) -> dict[str, tuple[int, ...]]:
    return {'weight': (channels,), 'bias': (channels,), 'running_mean': (channels,),
            'running_var': (channels,), 'num_batches_tracked': ()}


def backbone_table() -> dict[str, tuple[int, ...]]:
    table: dict[str, tuple[int, ...]] = {'conv1.conv.weight': (16, 3, 3, 3)}
    table.update({f'conv1.bn.{key}': shape for key, shape in norm(16).items()})
    for i, (block, wide) in enumerate(zip(BLOCKS, WIDE), start=1):
        h, layer = block.size, f'layer{i}'
        table[f'{layer}.complex_weight'] = (block.channels, h, h // 2 + 1, 2)
        for part, shape in (('expand_conv', (block.mid, block.channels, 1, 1)),
                            ('depthwise_conv', (wide, 1, 7, 7)),
                            ('linear_conv', (block.out, wide, 1, 1))):
            table[f'{layer}.{part}.conv.weight'] = shape
            table.update({f'{layer}.{part}.bn.{key}': s for key, s in norm(shape[0]).items()})
        if i in SQUEEZED:
            r = SQUEEZED[i]
            for name, shape in (('conv1', (r, wide, 1, 1)), ('conv2', (wide, r, 1, 1))):
                table[f'{layer}.se.{name}.conv.weight'] = shape
                table[f'{layer}.se.{name}.conv.bias'] = shape[:1]
    table['conv2.conv.weight'] = (960, 403, 1, 1)
    return {f'preact.{key}': shape for key, shape in table.items()}


def flow_table(name: str, d: int) -> dict[str, tuple[int, ...]]:
    table: dict[str, tuple[int, ...]] = {f'{name}.mask': (6, d)}
    for net in 'st':
        for i in range(6):
            for layer, (out, inputs) in {0: (64, d), 2: (64, 64), 4: (d, 64)}.items():
                table[f'{name}.{net}.{i}.{layer}.weight'] = (out, inputs)
                table[f'{name}.{net}.{i}.{layer}.bias'] = (out,)
    return table


def head_table(tokens: int = 96, channels: int = 960) -> dict[str, tuple[int, ...]]:
    table: dict[str, tuple[int, ...]] = {
        'final_layer.weight': (tokens, channels, 7, 7), 'final_layer.bias': (tokens,),
        'mlp.0.g': (1,), 'mlp.1.weight': (256, 64), 'gau.ln.g': (1,),
        'gau.uv.weight': (1152, 256), 'gau.gamma': (2, 128), 'gau.beta': (2, 128),
        'gau.o.weight': (256, 512), 'gau.res_scale.scale': (256,)}
    for axis in 'uvd':
        table[f'cls_{axis}_coord.weight'] = table[f'cls_{axis}_sigma.weight'] = (1, 256)
    return {f'pose_head.{key}': shape for key, shape in table.items()}


def trunk_table(features: int = 1216) -> dict[str, tuple[int, ...]]:
    table: dict[str, tuple[int, ...]] = {'init_shape': (10,), 'init_cam': (3,)}
    for name, out, inputs in (('fc1', 1024, features), ('fc2', 1024, 1024), ('decshape', 10, 1024),
                              ('deccam', 3, 1024), ('decphi', 46, 1024)):
        table[f'{name}.weight'], table[f'{name}.bias'] = (out, inputs), (out,)
    return table


SMPL = {f'smpl.{name}': (2, 3) for name in (
    'v_template', 'shapedirs', 'posedirs', 'J_regressor', 'J_regressor_h36m', 'lbs_weights',
    'parents', 'children_map', 'faces_tensor')}


def authors_state() -> State:
    table = {**backbone_table(), **head_table(), **flow_table('flow2d', 2),
             **flow_table('flow3d', 3), **SMPL, **trunk_table()}
    assert len(table) == 507
    generator = torch.Generator().manual_seed(0)
    return {key: 0.1 * torch.rand(shape, generator=generator) for key, shape in table.items()}


@pytest.fixture(scope='module')
def state() -> State:
    return authors_state()


def converted(state: object, folder: Path) -> State:
    torch.save(state, folder / 'theirs.pth')
    import_checkpoint(folder / 'theirs.pth', folder / 'ours.safetensors')
    return safetensors.torch.load_file(folder / 'ours.safetensors')


def test_every_tensor_is_used(state: State, tmp_path: Path) -> None:
    ours = converted({'model': {f'module.{key}': value for key, value in state.items()}}, tmp_path)
    assert not any('smpl' in key for key in ours)
    used = [value for key, value in ours.items() if not key.endswith('num_batches_tracked')]
    theirs = [value for key, value in state.items()
              if not key.startswith('smpl.') and not key.endswith('num_batches_tracked')]
    assert sum(v.numel() for v in used) == sum(v.numel() for v in theirs)
    # The sum of squares would tell a tensor that was taken twice.
    assert sum(float((v.double() ** 2).sum()) for v in used) == pytest.approx(
        sum(float((v.double() ** 2).sum()) for v in theirs), rel=1e-9)
    for key, theirs_key in (('network.backbone.blocks.4.squeeze.expand.bias',
                             'preact.layer5.se.conv2.conv.bias'),
                            ('network.attention.out.weight', 'pose_head.gau.o.weight'),
                            ('network.trunk.twist.bias', 'decphi.bias'),
                            ('sheet.flows.flow3d.t.5.4.bias', 'flow3d.t.5.4.bias')):
        torch.testing.assert_close(ours[key], state[theirs_key], rtol=0, atol=0)
    torch.testing.assert_close(
        ours['network.heads.sigmas.weight'][2:], state['pose_head.cls_d_sigma.weight'])


def test_imported_weights_run_as_the_authors_use_them(state: State, tmp_path: Path) -> None:
    converted(state, tmp_path)
    network, facts = read_network(tmp_path / 'ours.safetensors')
    assert facts.projection == 'known_box' and facts.body_model == 'smpl'
    assert facts.mean == (0.406, 0.457, 0.480)
    with torch.no_grad():
        uvd = network.eval()(torch.zeros(1, 3, 256, 256)).uvd
    assert torch.isfinite(uvd).all()


@pytest.mark.parametrize('backbone, channels', [('resnet34', 512), ('hrnet_w48', 2048)])
def test_other_backbones_are_told_by_their_channels(
        backbone: str, channels: int, state: State, tmp_path: Path) -> None:
    from hmr_ros.networks.keypoint_guided.network import BACKBONES
    features = {f'preact.{key}': value for key, value in BACKBONES[backbone]().state_dict().items()}
    heads = {**head_table(96, channels), **trunk_table(channels + 256)}
    rest = {key: value for key, value in state.items() if key.startswith('flow')}
    theirs = {**features, **rest, **{key: torch.rand(shape) for key, shape in heads.items()}}
    ours = converted({'state_dict': theirs}, tmp_path)
    key = {'resnet34': 'layer4.2.conv2.weight',
           'hrnet_w48': 'stage4.2.fuse_layers.3.0.2.0.weight'}[backbone]
    torch.testing.assert_close(ours[f'network.backbone.{key}'], features[f'preact.{key}'])
    assert read_network(tmp_path / 'ours.safetensors')[1].backbone == backbone


def without(state: State, key: str) -> State:
    return {name: value for name, value in state.items() if name != key}


KEY = 'preact.layer7.depthwise_conv.conv.weight'
BAD = {
    'missing': (lambda s: without(s, KEY), KEY),
    'renamed': (lambda s: {**without(s, KEY), 'preact.layer7.conv': s[KEY]}, KEY),
    'misshapen': (lambda s: {**s, KEY: s[KEY][:, :, :5]}, KEY),
    'extra': (lambda s: {**s, 'preact.layer16.conv': s[KEY]}, 'preact.layer16.conv'),
    'not finite': (lambda s: {**s, KEY: s[KEY] / 0}, KEY),
    '29 tokens': (lambda s: {**s, 'pose_head.final_layer.weight': torch.zeros(29, 960, 7, 7)},
                  'pose_head.final_layer.bias'),
    '31 tokens': (lambda s: {**s, 'pose_head.final_layer.weight': torch.zeros(31, 960, 7, 7)},
                  'pose_head.final_layer.weight'),
    'refinement': (lambda s: {**s, 'fc3.weight': torch.zeros(1)}, 'fc3.weight'),
    'mesh points': (lambda s: {**s, 'fc_uvd54_1.weight': torch.zeros(1)}, 'fc_uvd54_1.weight'),
    'no head': (lambda s: {'preact.conv1.conv.weight': s['preact.conv1.conv.weight']},
                'pose_head.final_layer.weight')}


@pytest.mark.parametrize('fault', BAD)
def test_bad_checkpoints_are_refused_by_key(fault: str, state: State, tmp_path: Path) -> None:
    change, key = BAD[fault]
    with pytest.raises(TrainingError, match=key.replace('.', r'\.')):
        converted(change(state), tmp_path)
    assert not (tmp_path / 'ours.safetensors').exists()


class _Trap:
    """A pickle of it asks for os.mkdir."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize('protocol', [2, 4])
def test_code_in_a_checkpoint_is_not_run(protocol: int, tmp_path: Path) -> None:
    trap = tmp_path / 'sprung'
    path = tmp_path / 'theirs.pth'
    torch.save({'model': _Trap(trap)}, path, pickle_protocol=protocol)
    with pytest.raises(TrainingError, match='refused'):
        import_checkpoint(path, tmp_path / 'ours.safetensors')
    path.write_bytes(pickle.dumps(_Trap(trap), protocol))
    with pytest.raises(TrainingError, match='theirs.pth'):
        import_checkpoint(path, tmp_path / 'ours.safetensors')
    assert not trap.exists()


@pytest.mark.parametrize('content', [b'', b'no checkpoint', {'model': 3}, {}, [1]])
def test_files_without_tensors_are_refused(content: object, tmp_path: Path) -> None:
    path = tmp_path / 'theirs.pth'
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(TrainingError, match='theirs.pth'):
        import_checkpoint(path, tmp_path / 'ours.safetensors')
