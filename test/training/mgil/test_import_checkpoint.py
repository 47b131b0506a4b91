# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of SimCC, mmpose, HRNet and torchvision, made here from sheet mgil, section 5."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip('torch', reason='importing checkpoints needs torch')
from torch import nn  # noqa: E402

from hmr_ros.networks.keypoint_guided.hrnet import HRNetW48  # noqa: E402
from hmr_ros.networks.mgil import build_pose, NAMED, PoseVariant, square, STRIDED  # noqa: E402
from hmr_ros.training.checkpoint_file import transfer  # noqa: E402
from hmr_ros.training.errors import TrainingError  # noqa: E402
from hmr_ros.training.mgil.import_checkpoint import import_checkpoint, read_source  # noqa: E402
from hmr_ros.training.mgil.weights import read_network  # noqa: E402

pytestmark = pytest.mark.torch
State = dict[str, torch.Tensor]
COUNTER = 'num_batches_tracked'


def shapes_of(build: Callable[[], nn.Module]) -> dict[str, tuple[int, ...]]:
    with torch.device('meta'):
        return {name: tuple(value.shape) for name, value in build().state_dict().items()}


def filled(shapes: dict[str, tuple[int, ...]]) -> State:
    """Tensors that differ from each other, at the cost of one number each in memory and file."""
    return {name: torch.tensor(float(i % 1000) / 1000).expand(shape) if shape
            else torch.tensor(i) for i, (name, shape) in enumerate(shapes.items())}


def pose_state(variant: PoseVariant) -> State:
    return filled(shapes_of(lambda: build_pose(variant)))


@pytest.fixture(scope='module')
def w32() -> State:
    return pose_state(square('w32', STRIDED, 32))


@pytest.fixture(scope='module')
def resnet() -> State:
    return pose_state(square('resnet50', STRIDED, 64))


def written(content: object, folder: Path) -> Path:
    torch.save(content, folder / 'theirs.pth')
    return folder / 'theirs.pth'


def mmpose_names(state: State) -> State:
    """The same tensors as mmpose 1.x calls them."""
    def renamed(name: str) -> str:
        if name.startswith(('deconv_layers.', 'final_layer.')):
            return f'head.deconv_head.{name}'
        return f'head.{name}' if name.startswith('mlp_head') else f'backbone.{name}'
    return {renamed(name): value for name, value in state.items()}


def equal(ours: State, theirs: State) -> bool:
    return all(torch.equal(ours[name], value) for name, value in theirs.items())


def test_simcc_files_are_used_whole(w32: State, tmp_path: Path) -> None:
    """Check 10: 1758 of 1758 keys."""
    assert len(w32) == 1758
    network = build_pose(square('w32', STRIDED, 32))
    done = transfer(read_source(written(w32, tmp_path)).state, network)
    assert (len(done.loaded), done.refused, done.fresh) == (1758, (), ())
    assert equal(network.state_dict(), w32)


def test_into_the_lossless_network(w32: State, tmp_path: Path) -> None:
    """Check 10: 1716 load, 42 convolutions are refused by name, 1890 start fresh."""
    network = build_pose(square('w32', NAMED['mgil'], 32))
    before = {name: value.clone() for name, value in network.state_dict().items()
              if '.flie.' in name or '.mgaf.' in name}
    done = transfer(read_source(written(w32, tmp_path)).state, network)
    assert (len(done.loaded), len(done.refused), len(done.fresh)) == (1716, 42, 1890)
    assert 'conv1.weight' in done.refused and 'stage3.3.fuse_layers.2.0.1.0.weight' in done.refused
    assert all(name.endswith('.weight') for name in done.refused)
    assert equal(network.state_dict(), {name: w32[name] for name in done.loaded})
    assert equal(network.state_dict(), before) and set(before) <= set(done.fresh)
    assert '1716 tensors loaded, 42 refused, 1890 start fresh' in done.summary


def test_mmpose_files_map_onto_every_key(resnet: State, tmp_path: Path) -> None:
    """Check 10: 342 keys, by their names there."""
    theirs = mmpose_names(resnet)
    assert 'head.deconv_head.deconv_layers.7.running_var' in theirs
    content = {'state_dict': {**theirs, 'data_preprocessor.mean': torch.zeros(3)},
               'meta': {'epoch': 210}}
    source = read_source(written(content, tmp_path))
    assert set(source.state) == set(resnet) and len(resnet) == 342
    assert source.skipped == ('data_preprocessor.mean',)
    facts = import_checkpoint(tmp_path / 'theirs.pth', tmp_path / 'ours.safetensors', 64, 64, 3)
    network, read = read_network(tmp_path / 'ours.safetensors')
    assert read == facts and equal(network.state_dict(), resnet)
    assert (read.color_order, read.labels, read.score_mode, read.flip_shift) == (
        'rgb', 'gaussian', 'min', 0)


@pytest.mark.parametrize('container', ['bare', 'best', 'wrapped'])
def test_containers_of_simcc(container: str, resnet: State, tmp_path: Path) -> None:
    """ResNets of SimCC take blue, green, red; the best state goes before the last."""
    older = {key: value for key, value in resnet.items() if not key.endswith(COUNTER)}
    wrapped = {f'module.{key}': value for key, value in older.items()}
    zeros = {key: torch.zeros_like(value) for key, value in wrapped.items()}
    content = {
        'bare': older, 'wrapped': {'epoch': 3, 'model': 'pose_resnet', 'state_dict': wrapped},
        'best': {'epoch': 3, 'model': 'pose_resnet', 'state_dict': zeros,
                 'best_state_dict': older, 'perf': 0.4, 'optimizer': {'state': {}}}}[container]
    facts = import_checkpoint(
        written(content, tmp_path), tmp_path / 'ours.safetensors', 64, 64, 3)
    assert facts.color_order == 'bgr' and facts.backbone == 'resnet50' and facts.flip_shift == 1
    assert 'resnet50, strided, crops of 64x64 pixels, bgr' in facts.summary
    network, _ = read_network(tmp_path / 'ours.safetensors')
    assert equal(network.state_dict(), older)


def test_labels_decide_the_score(resnet: State, tmp_path: Path) -> None:
    """SimCC's files do not say that they were trained with Gaussian labels."""
    path, out = written(resnet, tmp_path), tmp_path / 'ours.safetensors'
    assert import_checkpoint(path, out, 64, 64, 3).score_mode == 'max'
    assert import_checkpoint(path, out, 64, 64, 3, 'gaussian').score_mode == 'min'
    with pytest.raises(TrainingError, match="'hard'; allowed: smoothing, gaussian"):
        import_checkpoint(path, out, 64, 64, 3, 'hard')


@pytest.mark.parametrize('ratio, keypoints', [(2, 17), (1.5, 16)])
def test_variants_are_told_by_their_tensors(
        ratio: float, keypoints: int, tmp_path: Path) -> None:
    state = pose_state(PoseVariant('resnet50_upsample_free', STRIDED, 256, 192, ratio, keypoints))
    facts = import_checkpoint(
        written(state, tmp_path), tmp_path / 'ours.safetensors', 256, 192, ratio)
    assert facts.variant == PoseVariant(
        'resnet50_upsample_free', STRIDED, 256, 192, ratio, keypoints)


def test_trunk_for_pictures_starts_a_training(tmp_path: Path) -> None:
    """HRNet for ImageNet: all but what reads the last stage; skipped and fresh by name."""
    theirs = filled({**shapes_of(HRNetW48), 'classifier.weight': (1000, 2048),
                     'classifier.bias': (1000,)})
    source = read_source(written(theirs, tmp_path))
    assert source.layout.program == 'HRNet for ImageNet'
    assert {name.split('.')[0] for name in source.skipped} == {
        'incre_modules', 'downsamp_modules', 'classifier', 'final_layer', 'stage4'}
    assert all(name.startswith('stage4.2.fuse_layers.') for name in source.skipped
               if name.startswith('stage4'))
    with torch.device('meta'):
        own = build_pose(square('w48', STRIDED, 64)).state_dict()
    assert {name for name in own if name not in source.state} == {
        f'{layer}.{part}' for layer in ('final_layer', 'mlp_head_x', 'mlp_head_y')
        for part in ('weight', 'bias')}
    assert all(own[name].shape == value.shape for name, value in source.state.items())
    with pytest.raises(TrainingError, match='can only start a training'):
        import_checkpoint(tmp_path / 'theirs.pth', tmp_path / 'ours.safetensors', 64, 64, 3)


def test_torchvision_starts_a_training(resnet: State, tmp_path: Path) -> None:
    theirs = {name: value for name, value in resnet.items()
              if not name.startswith(('deconv', 'final', 'mlp'))}
    theirs['fc.weight'], theirs['fc.bias'] = torch.zeros(1000, 2048), torch.zeros(1000)
    network = build_pose(square('resnet50', NAMED['mgil'], 32))
    source = read_source(written(theirs, tmp_path))
    done = transfer(source.state, network)
    assert source.skipped == ('fc.weight', 'fc.bias')
    assert done.refused == tuple(
        f'{name}.weight' for name in ('conv1', 'layer2.0.conv2', 'layer3.0.conv2',
                                      'layer4.0.conv2'))
    assert {name.split('.')[0] for name in done.fresh} == {
        'conv1', 'maxpool', 'layer2', 'layer3', 'layer4', 'deconv_layers', 'final_layer',
        'mlp_head_x', 'mlp_head_y'}
    assert len(done.loaded) == len(theirs) - 2 - 4


def without(state: State, key: str) -> State:
    return {name: value for name, value in state.items() if name != key}


KEY = 'layer3.5.conv2.weight'
BAD: dict[str, tuple[Callable[[State], object], str]] = {
    'missing': (lambda s: without(s, KEY), f'{KEY}.*the file lacks'),
    'misshapen': (lambda s: {**s, KEY: s[KEY][:, :, :1]}, f'{KEY}.*in this shape'),
    'extra': (lambda s: {**s, 'layer5.0.conv1.weight': s[KEY]}, 'layer5.0.conv1.weight'),
    'not finite': (lambda s: {**s, KEY: s[KEY] + torch.inf}, f'{KEY}.*not finite'),
    'other size': (lambda s: {**s, 'mlp_head_x.weight': torch.zeros(96, 64)}, '64x64'),
    'no keypoints': (lambda s: without(s, 'final_layer.weight'), 'final_layer.weight'),
    'unknown': (lambda s: {'weight': s[KEY]}, 'is of none of mmpose'),
    'no tensors': (lambda s: {'state_dict': {}}, 'theirs.pth')}


@pytest.mark.parametrize('fault', BAD)
def test_bad_checkpoints_are_refused_by_key(fault: str, resnet: State, tmp_path: Path) -> None:
    change, message = BAD[fault]
    with pytest.raises(TrainingError, match=message):
        import_checkpoint(written(change(resnet), tmp_path), tmp_path / 'ours.safetensors',
                          64, 64, 3)
    assert not (tmp_path / 'ours.safetensors').exists()


@pytest.mark.parametrize('height, width, ratio', [(64, 64, 2), (128, 128, 3), (48, 64, 3)])
def test_wrong_sizes_are_refused(
        height: int, width: int, ratio: float, resnet: State, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=f'{width}x{height} pixels'):
        import_checkpoint(written(resnet, tmp_path), tmp_path / 'ours.safetensors',
                          height, width, ratio)


def test_other_widths_of_hrnet_are_refused(w32: State, tmp_path: Path) -> None:
    key = 'stage2.0.branches.0.0.conv1.weight'
    path = written({**w32, key: torch.zeros(18, 18, 3, 3)}, tmp_path)
    with pytest.raises(TrainingError, match='width 18; expected one of 32, 48'):
        import_checkpoint(path, tmp_path / 'ours.safetensors', 32, 32, 3)
