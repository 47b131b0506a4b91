# SPDX-License-Identifier: Apache-2.0
"""The networks of mgil against the tables of their sheet, checks 3, 4 and 7; see also issue 6."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='networks need torch')
from torch import nn  # noqa: E402

from hmr_ros.evaluation.mgil_complexity import count, describe, SHEET  # noqa: E402
from hmr_ros.networks.mgil import (  # noqa: E402
    build_pose, Downsampling, NAMED, PoseVariant, square, STRIDED)
from hmr_ros.networks.mgil.classifier import Classifier  # noqa: E402
from hmr_ros.networks.mgil.detector import ANCHORS, decode, Detector, STRIDES  # noqa: E402
from hmr_ros.networks.mgil.downsampling import strided_layers  # noqa: E402

pytestmark = pytest.mark.torch
MGIL = Downsampling()
#: parameters of the sheet that are whole numbers: sections 2 and 7.
EXACT = {('w32', 'strided'): 28_548_593, ('w32', 'spd'): 36_184_625, ('w32', 'mgil'): 62_569_411,
         ('w48', 'strided'): 63_608_225, ('resnet50', 'strided'): 34_012_177}
#: (parameters in millions, GMAC) at 256x192 with two bins per pixel.
TALL = {('w32', 'strided'): (31.290, 7.6918), ('w32', 'mgil'): (65.310, 15.3041),
        ('w48', 'mgil'): (142.002, 29.2761), ('resnet50', 'strided'): (36.753, 5.4732),
        ('resnet50', 'mgil'): (58.883, 10.5386)}
#: HRNet-W32 by layer: input and output channels, output stride, parameters of its block.
_FUSE = 'stage{}.fuse_layers.{}'
LAYERS = {
    'conv1': (3, 64, 2, 155_271), 'conv2': (64, 64, 4, 295_815),
    'transition1.1.0.0': (256, 64, 8, 738_183), 'transition2.2.0.0': (64, 128, 16, 886_535),
    'transition3.3.0.0': (128, 256, 32, 3_542_535),
    **{_FUSE.format(stage, '1.0.0.0'): (32, 64, 8, 222_087)
       for stage in ('2.0', '3.0', '3.1', '3.2', '3.3', '4.0', '4.1')},
    **{_FUSE.format(stage, path): row for stage in ('3.0', '3.1', '3.2', '3.3', '4.0', '4.1')
       for path, row in (('2.0.0.0', (32, 32, 8, 74_181)), ('2.0.1.0', (32, 128, 16, 739_079)),
                         ('2.1.0.0', (64, 128, 16, 886_535)))},
    **{_FUSE.format(stage, path): row for stage in ('4.0', '4.1')
       for path, row in (
           ('3.0.0.0', (32, 32, 8, 74_181)), ('3.0.1.0', (32, 32, 16, 74_181)),
           ('3.0.2.0', (32, 256, 32, 2_657_799)), ('3.1.0.0', (64, 64, 16, 295_815)),
           ('3.1.1.0', (64, 256, 32, 2_952_711)), ('3.2.0.0', (128, 256, 32, 3_542_535)))}}


def on_meta(build: Callable[[], nn.Module]) -> nn.Module:
    """Build a network without memory for its tensors."""
    with torch.device('meta'):
        return build()


def pose(backbone: str, name: str, size: int) -> nn.Module:
    return on_meta(lambda: build_pose(square(backbone, NAMED[name], size)))


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def shapes_of(network: nn.Module, names: list[str], height: int, width: int) -> dict[str, tuple]:
    """Shapes of what the named layers take and give for one crop."""
    found: dict[str, tuple] = {}

    def keep(name: str) -> Callable[..., None]:
        return lambda _module, inputs, output: found.update(
            {name: (tuple(inputs[0].shape), tuple(output.shape))})

    for name in names:
        network.get_submodule(name).register_forward_hook(keep(name))
    with torch.no_grad():
        network.eval()(torch.zeros(1, 3, height, width, device='meta'))
    return found


@pytest.mark.parametrize('backbone, name', SHEET)
def test_counts_of_the_sheet(backbone: str, name: str) -> None:
    """Check 4."""
    facts = describe(backbone, name, 64)
    assert round(facts['parameters'] / 1e6, 3) == facts['paper']['parameters_m']
    assert round(facts['gmacs'], 4) == facts['paper']['gmacs']
    assert sum(facts['parameters_by_module'].values()) == facts['parameters']


@pytest.mark.parametrize('backbone, name', EXACT)
def test_whole_numbers_of_the_sheet(backbone: str, name: str) -> None:
    """Check 4: the parameters at 32 pixels."""
    facts = describe(backbone, name, 32)
    assert facts['parameters'] == EXACT[backbone, name]
    assert round(facts['gmacs'], 4) == facts['paper']['gmacs']


def test_counts_at_128_pixels() -> None:
    facts = describe('resnet50', 'mgil', 128)
    assert round(facts['parameters'] / 1e6, 3) == facts['paper']['parameters_m']
    assert round(facts['gmacs'], 4) == facts['paper']['gmacs']


@pytest.mark.parametrize('backbone, name', TALL)
def test_counts_of_the_baseline_size(backbone: str, name: str) -> None:
    network = on_meta(lambda: build_pose(PoseVariant(backbone, NAMED[name], 256, 192, 2)))
    found, gmacs = count(network, 256, 192)
    assert (round(found / 1e6, 3), round(gmacs, 4)) == TALL[backbone, name]


def test_every_layer_of_hrnet() -> None:
    """Section 2: names, channels and parameters of all 42 blocks, and their sums."""
    host, network = pose('w32', 'strided', 32), pose('w32', 'mgil', 32)
    assert set(strided_layers(host)) == set(LAYERS) and len(LAYERS) == 42
    for name, (channels, out, _, size) in LAYERS.items():
        strided = host.get_submodule(name)
        assert (strided.in_channels, strided.out_channels) == (channels, out)
        assert parameters(network.get_submodule(name)) == size
    assert sum(parameters(host.get_submodule(name)) for name in LAYERS) == 2_545_344
    assert sum(size for *_, size in LAYERS.values()) == 36_566_162


@pytest.mark.parametrize('height, width', [(32, 32), (64, 64), (256, 192)])
def test_every_layer_of_hrnet_keeps_its_sizes(height: int, width: int) -> None:
    """Check 3."""
    found = {}
    for kind in (STRIDED, MGIL):
        network = on_meta(lambda: build_pose(PoseVariant('w32', kind, height, width, 2)))
        found[kind] = shapes_of(network, list(LAYERS), height, width)
    assert found[STRIDED] == found[MGIL] and len(found[MGIL]) == 42
    for name, (channels, out, stride, _) in LAYERS.items():
        assert found[MGIL][name] == ((1, channels, 2 * height // stride, 2 * width // stride),
                                     (1, out, height // stride, width // stride))


RESNET = ['conv1', 'maxpool', 'layer2.0.conv2', 'layer3.0.conv2', 'layer4.0.conv2']


def test_every_layer_of_resnet() -> None:
    """Check 3 and section 2; the shortcuts stay."""
    host, network = pose('resnet50', 'strided', 32), pose('resnet50', 'mgil', 32)
    assert strided_layers(host) == RESNET
    assert shapes_of(host, RESNET, 32, 32) == shapes_of(network, RESNET, 32, 32)
    assert isinstance(network.layer2[0].downsample[0], nn.Conv2d)


def test_how_many_layers_each_scope_replaces() -> None:
    """Check 4: 42, 5, 5, 7; and the other hosts of section 2."""
    host = pose('w32', 'strided', 32)
    assert len(strided_layers(host)) == 42
    assert strided_layers(host, 'lite') == [
        'conv1', 'conv2', 'transition1.1.0.0', 'transition2.2.0.0', 'transition3.3.0.0']
    detector = on_meta(lambda: Detector(1, STRIDED))
    assert strided_layers(detector) == [f'layers.{i}.conv' for i in (0, 1, 3, 5, 7, 18, 21)]
    assert strided_layers(on_meta(lambda: Classifier('resnet18', 2, STRIDED))) == [
        'conv1', 'maxpool', 'layer2.0.conv1', 'layer3.0.conv1', 'layer4.0.conv1']
    assert strided_layers(on_meta(lambda: Classifier('resnet50_cifar', 2, STRIDED))) == [
        'layer2.0.conv2', 'layer3.0.conv2', 'layer4.0.conv2']


@pytest.mark.parametrize('name, numbers', [
    ('strided', (1_872_157, 2.234, 1_765_270, 2.064, 0.516)),
    ('spd', (3_600_157, 4.004, 3_493_270, 3.834, 0.958)),
    ('mgil', (7_489_770, 9.194, 7_382_883, 9.024, 2.256))])
def test_counts_of_the_detector(name: str, numbers: tuple[float, ...]) -> None:
    coco, person = (on_meta(lambda: Detector(classes, NAMED[name])) for classes in (80, 1))
    found = (*count(coco, 640, 640), *count(person, 640, 640), count(person, 320, 320)[1])
    assert tuple(round(value, 3) for value in found) == numbers


@pytest.mark.parametrize('name, small, cifar', [
    ('strided', (11_279_112, 0.148), (23_520_842, 1.298)),
    ('spd', (16_068_936, 0.226), (32_810_570, 1.638)),
    ('mgil', (28_764_523, 0.528), (45_209_439, 2.091))])
def test_counts_of_the_classifiers(
        name: str, small: tuple[float, float], cifar: tuple[float, float]) -> None:
    found, gmacs = count(on_meta(lambda: Classifier('resnet18', 200, NAMED[name])), 64, 64)
    assert (found, round(gmacs, 3)) == small
    found, gmacs = count(on_meta(lambda: Classifier('resnet50_cifar', 10, NAMED[name])), 32, 32)
    assert (found, round(gmacs, 3)) == cifar


@pytest.mark.parametrize('size, bins, cells', [
    ((32, 32, 3), (96, 96), 64), ((64, 64, 3), (192, 192), 256),
    ((128, 128, 2), (256, 256), 1024), ((256, 192, 2), (384, 512), 3072)])
def test_lengths_of_the_vectors(
        size: tuple[int, int, float], bins: tuple[int, int], cells: int) -> None:
    """Check 7, of all pose networks."""
    height, width, ratio = size
    for backbone in ('small', 'resnet50'):
        network = on_meta(lambda: build_pose(PoseVariant(backbone, STRIDED, height, width, ratio)))
        x, y = network(torch.zeros(2, 3, height, width, device='meta'))
        assert (x.shape, y.shape) == ((2, 17, bins[0]), (2, 17, bins[1]))
        assert network.mlp_head_x.in_features == cells
    free = on_meta(lambda: build_pose(
        PoseVariant('resnet50_upsample_free', STRIDED, height, width, ratio)))
    maps = 28 if height == 256 else 32
    assert free.mlp_head_x.in_features == maps * height * width // 32 ** 2
    assert free(torch.zeros(2, 3, height, width, device='meta'))[0].shape == (2, 17, bins[0])


def test_maps_of_a_joint_stay_together() -> None:
    """Without upsampling each joint reads its own 32 maps, row by row."""
    torch.manual_seed(0)
    network = build_pose(PoseVariant('resnet50_upsample_free', STRIDED, 64, 64)).eval()
    features = torch.randn(2, 2048, 2, 2)
    network.last_map = lambda _: features
    with torch.no_grad():
        maps = network.final_layer(features)
        x, _ = network(torch.zeros(2, 3, 64, 64))
        for joint in (0, 16):
            own = maps[:, 32 * joint:32 * joint + 32].flatten(1)
            torch.testing.assert_close(x[:, joint], network.mlp_head_x(own))


def test_tensors_are_named_as_published() -> None:
    """Section 5: key counts, and shapes of some."""
    host = pose('w32', 'strided', 32).state_dict()
    assert len(host) == 1758
    assert sum(key.endswith('num_batches_tracked') for key in host) == 292
    shapes = {'conv1.weight': (64, 3, 3, 3), 'layer1.0.downsample.0.weight': (256, 64, 1, 1),
              'transition1.0.0.weight': (32, 256, 3, 3),
              'transition1.1.0.0.weight': (64, 256, 3, 3),
              'stage4.2.fuse_layers.0.3.0.weight': (32, 256, 1, 1),
              'final_layer.weight': (17, 32, 1, 1), 'mlp_head_x.weight': (96, 64)}
    assert {key: tuple(host[key].shape) for key in shapes} == shapes
    assert not any(key.startswith('stage4.2.fuse_layers.1') for key in host)
    resnet = pose('resnet50', 'strided', 32).state_dict()
    assert len(resnet) == 342
    assert sum(key.endswith('num_batches_tracked') for key in resnet) == 56
    assert resnet['deconv_layers.0.weight'].shape == (2048, 256, 4, 4)
    assert resnet['deconv_layers.7.running_var'].shape == (256,)
    assert len(pose('w32', 'mgil', 32).state_dict()) == 3606


def test_small_network_is_small() -> None:
    """What the default may cost on one core: a tenth of HRNet-W32's operations."""
    facts = describe('small', 'mgil', 64)
    assert facts['paper'] == {} and facts['parameters'] < 5e6 and facts['gmacs'] < 0.15


@pytest.mark.parametrize('values', [{'backbone': 'w64'}, {'height': 48}, {'width': 0}])
def test_impossible_variants_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValueError, match='allowed|multiples of 32'):
        PoseVariant(**values)


def test_networks_train_on_the_smallest_crops() -> None:
    """Gradients reach every parameter, at maps of one pixel too."""
    torch.manual_seed(0)
    network = build_pose(square('small', MGIL, 32))
    # The gate's kernel gets its first gradient when its matrix has left zero.
    for name, parameter in network.named_parameters():
        if name.endswith('mgaf.fc.weight'):
            nn.init.normal_(parameter)
    x, y = network(torch.randn(4, 3, 32, 32))
    (x.square().sum() + y.square().sum()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def test_decoding_of_boxes() -> None:
    """Section 2, number by number."""
    rng = np.random.default_rng(0)
    sizes, classes = ((8, 12), (4, 6), (2, 3)), 2
    maps = [rng.normal(size=(2, 3 * (5 + classes), *size)) for size in sizes]
    boxes, scores = decode([torch.from_numpy(m) for m in maps])
    expected_boxes, expected_scores = [], []
    for raw, stride, anchors in zip(maps, STRIDES, ANCHORS):
        for a, anchor in enumerate(anchors):
            for row in range(raw.shape[2]):
                for column in range(raw.shape[3]):
                    s = sigmoid(raw[:, 7 * a:7 * a + 7, row, column])
                    centre = (2 * s[:, :2] - 0.5 + (column, row)) * stride
                    size = (2 * s[:, 2:4]) ** 2 * anchor
                    expected_boxes.append(
                        np.concatenate([centre - size / 2, centre + size / 2], axis=1))
                    expected_scores.append(s[:, 4:5] * s[:, 5:])
    np.testing.assert_allclose(boxes.numpy(), np.stack(expected_boxes, axis=1), rtol=1e-9)
    np.testing.assert_allclose(scores.numpy(), np.stack(expected_scores, axis=1), rtol=1e-9)


def test_detector_gives_one_map_for_each_stride() -> None:
    maps = on_meta(Detector)(torch.zeros(1, 3, 96, 64, device='meta'))
    assert [tuple(m.shape) for m in maps] == [(1, 18, 12, 8), (1, 18, 6, 4), (1, 18, 3, 2)]
