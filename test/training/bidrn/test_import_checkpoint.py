# SPDX-License-Identifier: Apache-2.0
"""Snapshots of Hand4Whole: read whole, or refused by the name of what is wrong (check 12)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
import pickle

import pytest

torch = pytest.importorskip('torch', reason='importing checkpoints needs torch')
pytest.importorskip('safetensors', reason='weights files need safetensors')

from hmr_ros.networks.bidrn import HAND4WHOLE, WholeBody  # noqa: E402
from hmr_ros.training import weights_file  # noqa: E402
from hmr_ros.training.bidrn.import_checkpoint import import_checkpoint  # noqa: E402
from hmr_ros.training.bidrn.weights import read_facts  # noqa: E402
from hmr_ros.training.errors import TrainingError  # noqa: E402

pytestmark = pytest.mark.torch
State = dict[str, torch.Tensor]


def of_resnet(prefix: str, bottleneck: bool) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a torchvision trunk, written from its definition."""
    shapes: dict[str, tuple[int, ...]] = {}

    def layer(conv: str, norm: str, out: int, channels: int, kernel: int) -> None:
        shapes[f'{prefix}{conv}.weight'] = (out, channels, kernel, kernel)
        shapes.update(norm_of(prefix + norm, out))
    layer('conv1', 'bn1', 64, 3, 7)
    channels, growth = 64, 4 if bottleneck else 1
    for stage, (width, count) in enumerate(
            zip((64, 128, 256, 512), (3, 4, 6, 3) if bottleneck else (2, 2, 2, 2)), start=1):
        for block in range(count):
            at = f'layer{stage}.{block}.'
            kernels = ((width, channels, 1), (width, width, 3), (4 * width, width, 1)) if (
                bottleneck) else ((width, channels, 3), (width, width, 3))
            for number, (out, entered, kernel) in enumerate(kernels, start=1):
                layer(f'{at}conv{number}', f'{at}bn{number}', out, entered, kernel)
            if block == 0 and channels != growth * width:
                layer(f'{at}downsample.0', f'{at}downsample.1', growth * width, channels, 1)
            channels = growth * width
    return shapes


def norm_of(name: str, channels: int) -> dict[str, tuple[int, ...]]:
    return {**{f'{name}.{part}': (channels,) for part in (
        'weight', 'bias', 'running_mean', 'running_var')}, f'{name}.num_batches_tracked': ()}


def affine(name: str, *shape: int) -> dict[str, tuple[int, ...]]:
    return {f'{name}.weight': shape, f'{name}.bias': shape[:1]}


def snapshot_shapes() -> dict[str, tuple[int, ...]]:
    """The table of the sheet's section 5."""
    shapes = {**of_resnet('backbone.', True), **of_resnet('hand_roi_net.backbone.', True),
              **of_resnet('face_roi_net.backbone.', False),
              **affine('body_position_net.conv.0', 200, 2048, 1, 1),
              **affine('hand_position_net.conv.0', 160, 2048, 1, 1)}
    for conv in ('body_rotation_net.body_conv', 'body_rotation_net.lhand_conv',
                 'body_rotation_net.rhand_conv', 'hand_rotation_net.hand_conv'):
        shapes.update({**affine(f'{conv}.0', 512, 2048, 1, 1), **norm_of(f'{conv}.1', 512)})
    for name, shape in (
            ('body_rotation_net.root_pose_out.0', (6, 16995)),
            ('body_rotation_net.body_pose_out.0', (126, 16995)),
            ('body_rotation_net.shape_out.0', (10, 2048)),
            ('body_rotation_net.cam_out.0', (3, 2048)),
            ('hand_rotation_net.hand_pose_out.0', (90, 10300)),
            ('box_net.bbox_center.0', (3, 256, 1, 1)), ('face_regressor.expr_out.0', (10, 512)),
            ('face_regressor.jaw_pose_out.0', (6, 512))):
        shapes.update(affine(name, *shape))
    for number, channels in ((0, 2248), (3, 256), (6, 256)):
        shapes[f'box_net.deconv.{number}.weight'] = (channels, 256, 4, 4)
        shapes.update(norm_of(f'box_net.deconv.{number + 1}', 256))
    for part in ('lhand', 'rhand', 'face'):
        shapes.update({**affine(f'box_net.{part}_size.0', 256, 256),
                       **affine(f'box_net.{part}_size.2', 2, 256)})
    return shapes


@pytest.fixture(scope='module')
def state() -> State:
    """Tensors of the layout that cost no memory: one number each, its place in the list."""
    return {f'module.{name}': torch.full((1,), number / 100.0 if shape else number,
                                         dtype=torch.float32 if shape else torch.long).expand(
                shape) if shape else torch.tensor(number)
            for number, (name, shape) in enumerate(snapshot_shapes().items())}


def written(state: State, folder: Path) -> Path:
    path = folder / 'snapshot_6.pth.tar'
    torch.save({'epoch': 6, 'network': state, 'optimizer': {'state': {}, 'param_groups': []}},
               path)
    return path


def test_the_layout_has_as_many_keys_as_the_sheet_says(state: State) -> None:
    assert len(state) == 834
    assert sum(name.endswith('num_batches_tracked') for name in state) == 133


def test_every_tensor_arrives(state: State, tmp_path: Path) -> None:
    body = {'module.smplx_layer.v_template': torch.zeros(3)}
    out = tmp_path / 'weights.safetensors'
    facts = import_checkpoint(written({**state, **body}, tmp_path), out)
    assert (facts.row, facts.body_model, facts.variant) == ('hand4whole', 'smplx', HAND4WHOLE)
    read = read_facts(out)
    assert (read.variant, read.licence) == (facts.variant, facts.licence)
    tensors = weights_file.network_tensors(out)
    with torch.device('meta'):
        expected = WholeBody(HAND4WHOLE).state_dict()
    assert {name: value.shape for name, value in tensors.items()} == {
        name: value.shape for name, value in expected.items()}
    for name, value in state.items():
        assert torch.equal(tensors[name.removeprefix('module.')], value), name


def without_a_key(state: State) -> State:
    return {name: value for name, value in state.items()
            if name != 'module.box_net.deconv.3.weight'}


def misshapen(state: State) -> State:
    return {**state, 'module.face_regressor.expr_out.0.weight': torch.zeros(50, 512)}


def with_another(state: State) -> State:
    return {**state, 'module.elbow.weight': torch.zeros(2)}


def not_finite(state: State) -> State:
    return {**state, 'module.bbox': torch.zeros(1),
            'module.backbone.bn1.bias': torch.full((64,), float('nan'))}


@pytest.mark.parametrize(('spoil', 'message'), [
    (without_a_key, r"lacks 'box_net\.deconv\.3\.weight'"),
    (misshapen, r"'face_regressor\.expr_out\.0\.weight' has shape \(50, 512\)"),
    (with_another, "'elbow.weight'"), (not_finite, "'backbone.bn1.bias' .* not finite")])
def test_wrong_snapshots_are_refused_by_name(
        spoil: Callable[[State], State], message: str, state: State, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=message):
        import_checkpoint(written(spoil(state), tmp_path), tmp_path / 'out.safetensors')
    assert not (tmp_path / 'out.safetensors').exists()


class Harmful:
    """What a pickle would run when it is read."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, ...]]:
        return print, ('run',)


def test_a_snapshot_that_runs_code_is_refused(tmp_path: Path) -> None:
    path = tmp_path / 'harmful.pth.tar'
    path.write_bytes(pickle.dumps({'network': Harmful()}))
    with pytest.raises(TrainingError, match='harmful'):
        import_checkpoint(path, tmp_path / 'out.safetensors')
