# SPDX-License-Identifier: Apache-2.0
"""The acceptance checks of the bidrn sheet that need a network (1 to 4, 8, 11). Needs torch."""

from __future__ import annotations

import pytest

torch = pytest.importorskip('torch', reason='the networks need torch')
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from hmr_ros.evaluation.bidrn_complexity import (  # noqa: E402
    count, count_as_paper, describe, PAPER)
from hmr_ros.networks.bidrn import (  # noqa: E402
    build_network, compact, HAND4WHOLE, NAMED, Variant, WholeBody)
from hmr_ros.networks.bidrn.binarization import (  # noqa: E402
    activation_bits, binary_weight, BINARY_LAYERS, BinaryConv2d, BinaryDeconv2d, BinaryLinear,
    ShiftedPReLU, signs, weight_bits, weight_scale)
from hmr_ros.networks.bidrn.boxes import around_uniform, PartBoxes  # noqa: E402
from hmr_ros.networks.bidrn.crops import decode_boxes, roi_align  # noqa: E402
from hmr_ros.networks.bidrn.decoders import sampled, soft_argmax, translation  # noqa: E402
from hmr_ros.networks.bidrn.encoders import BinaryResNet  # noqa: E402
from hmr_ros.networks.bidrn.layout import PLANS  # noqa: E402
from hmr_ros.networks.bidrn.network import restored  # noqa: E402
from hmr_ros.networks.bidrn.residuals import (  # noqa: E402
    BASE, DOWN_SAMPLE, DOWN_SCALE, FUSION_DOWN, FUSION_UP, FusionDown, kind_of, LocalResidual,
    PlainBinary, ScaledBoth, ShiftedBinary, SignsAlone)
from hmr_ros.networks.resnet import ResNet, RESNET18, RESNET50  # noqa: E402
from hmr_ros.perception.rotations import axis_angle_to_matrix, matrix_to_6d  # noqa: E402

pytestmark = pytest.mark.torch


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def on_meta(variant: Variant) -> WholeBody:
    with torch.device('meta'):
        return WholeBody(variant)


# ---- check 1: counts

def test_bidrn_holds_what_the_sheet_counts() -> None:
    counts = count(NAMED['bidrn'])
    assert (counts.binary_parameters, counts.parameters) == (62_791_680, 15_254_096)
    assert round(counts.effective_parameters / 1e6, 3) == 17.216


def test_hand4whole_holds_what_its_parts_add_up_to() -> None:
    """The sheet says 77,842,260, four more than its own inventory and its layout of tensors."""
    parts = 2 * 23_508_032 + 11_176_512 + 8_143_495 + 11_506_185
    assert count(HAND4WHOLE).parameters == parts == 77_842_256


@pytest.mark.parametrize('row', list(NAMED))
def test_every_row_of_the_tables(row: str) -> None:
    counts, (parameters, operations) = count_as_paper(row), PAPER[row]
    assert counts.effective_parameters / 1e6 == pytest.approx(parameters, rel=2e-3)
    # The rows of single encoders contradict the paper's own totals (sheet, section 8).
    if not row.endswith('_only'):
        assert counts.effective_operations == pytest.approx(operations, rel=1e-2)


def test_the_third_deconvolution_is_counted_where_it_runs() -> None:
    told = describe('bidrn')
    assert told['effective_operations_g'] - told['as_paper_counts_g'] == pytest.approx(
        0.755, abs=1e-3)


# ---- check 2: census

def test_census_of_the_modules() -> None:
    with torch.device('meta'):
        fifty, eighteen = (BinaryResNet(plan, Variant()) for plan in (RESNET50, RESNET18))
    assert census(fifty) == {BASE: 14, DOWN_SCALE: 3, FUSION_UP: 16, FUSION_DOWN: 15}
    assert census(eighteen) == {BASE: 13, DOWN_SAMPLE: 3}
    kernels = 2 * branches(fifty) + branches(eighteen)
    boxes = sum(isinstance(m, BINARY_LAYERS) for m in on_meta(Variant()).box_net.modules())
    assert (branches(fifty), branches(eighteen), kernels + boxes) == (135, 19, 294)


def census(network: nn.Module) -> dict[str, int]:
    found: dict[str, int] = {}
    for module in network.modules():
        if isinstance(module, (LocalResidual, FusionDown)):
            kind = kind_of(module.in_channels, module.out_channels, module.stride[0])
            found[kind] = found.get(kind, 0) + 1
    return found


def branches(network: nn.Module) -> int:
    """Kernels of equal channels, as the paper draws them."""
    return sum(max(m.in_channels, m.out_channels) // min(m.in_channels, m.out_channels)
               for m in network.modules() if isinstance(m, (LocalResidual, FusionDown)))


# ---- check 3: bits of activations

def test_both_zeros_are_plus_one() -> None:
    assert signs(torch.tensor([-1e-6, -0.0, 0.0, 1e-6])).tolist() == [-1, 1, 1, 1]


def test_gradient_of_a_bit() -> None:
    x = torch.tensor([-2, -1, -.75, -.5, -.25, 0, .25, .5, .75, 1, 2], requires_grad=True)
    activation_bits(x).sum().backward()
    assert x.grad.tolist() == [0, 0, .5, 1, 1.5, 2, 1.5, 1, .5, 0, 0]


def test_gradient_of_the_weights_bits() -> None:
    x = torch.tensor([-1.5, -1.0, 0.3, 1.0, 1.5], requires_grad=True)
    weight_bits(x).sum().backward()
    assert x.grad.tolist() == [0, 1, 1, 1, 0]


# ---- check 4: bits of weights

def test_weights_are_signs_times_the_mean_of_their_channel() -> None:
    weight = torch.tensor([[0.5, -1.5, 0.0, 2.0], [-1.0, -1.0, 1.0, 1.0]])
    assert weight_scale(weight).flatten().tolist() == [1, 1]
    assert binary_weight(weight).tolist() == [[1, -1, 1, 1], [-1, -1, 1, 1]]
    weight = random(3, 5, 2, 2).requires_grad_()
    (binary_weight(weight) * 3).sum().backward()
    torch.testing.assert_close(
        weight.grad, 3 * weight_scale(weight) * (weight.abs() <= 1).float())


def test_each_branch_of_a_fusion_has_scales_of_its_own() -> None:
    layer = FusionDown(8, 4, 1)
    with torch.no_grad():
        layer.weight[:, :4] *= 10
    scale = weight_scale(layer.grouped()).flatten()
    torch.testing.assert_close(scale[:4], layer.weight[:, :4].abs().mean((1, 2, 3)))
    torch.testing.assert_close(scale[4:], layer.weight[:, 4:].abs().mean((1, 2, 3)))


# ---- check 8: branches are dense or grouped convolutions

@pytest.mark.parametrize(('channels', 'out', 'stride'), [(16, 64, 1), (16, 32, 1), (8, 16, 2)])
def test_parallel_branches_are_one_dense_convolution(
        channels: int, out: int, stride: int) -> None:
    layer = unsettled(LocalResidual(channels, out, 3, stride))
    x = random(2, channels, 6, 6)
    clipped = functional.hardtanh(x)
    kept = functional.avg_pool2d(clipped, 2) if stride == 2 else clipped
    parts = []
    for j in range(out // channels):
        rows = slice(channels * j, channels * (j + 1))
        found = convolved(clipped, layer.weight[rows], stride)
        parts.append(shifted(found, layer.act, rows) + kept)
    torch.testing.assert_close(layer(x), torch.cat(parts, 1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('ratio', [2, 4])
def test_a_fusion_is_a_sum_of_branches(ratio: int) -> None:
    layer = unsettled(FusionDown(8 * ratio, 8, 1))
    x = random(2, 8 * ratio, 5, 7)
    total = torch.zeros(2, 8, 5, 7)
    for j, chunk in enumerate(functional.hardtanh(x).chunk(ratio, 1)):
        columns = slice(8 * j, 8 * (j + 1))
        total += shifted(convolved(chunk, layer.weight[:, columns], 1), layer.act, columns) + chunk
    torch.testing.assert_close(layer(x), total, rtol=1e-5, atol=1e-5)


def unsettled(layer: nn.Module) -> nn.Module:
    """With other than the first values of its activation."""
    with torch.no_grad():
        for seed, value in enumerate((layer.act.gamma, layer.act.beta, layer.act.zeta)):
            value.copy_(random(len(value), seed=seed))
    return layer


def convolved(x: torch.Tensor, weight: torch.Tensor, stride: int) -> torch.Tensor:
    bits = torch.where(weight >= 0, 1.0, -1.0) * weight.abs().mean((1, 2, 3), keepdim=True)
    return functional.conv2d(torch.where(x >= 0, 1.0, -1.0), bits, None, stride,
                             weight.shape[-1] // 2)


def shifted(x: torch.Tensor, act: ShiftedPReLU, rows: slice) -> torch.Tensor:
    gamma, beta, zeta = (p[rows, None, None] for p in (act.gamma, act.beta, act.zeta))
    t = x - gamma
    return torch.where(t > 0, t + zeta, beta * t + zeta)


def test_binary_layers_do_what_their_plain_ones_do_on_bits() -> None:
    x = random(2, 6, 5, 4)
    deconv, conv = BinaryDeconv2d(6, 3), BinaryConv2d(6, 3, 3)
    scale = deconv.weight.abs().mean((0, 2, 3), keepdim=True)
    torch.testing.assert_close(deconv(x), functional.conv_transpose2d(
        signs(x), scale * signs(deconv.weight), None, 2, 1))
    torch.testing.assert_close(conv(x), convolved(x, conv.weight, 1))
    linear, flat = BinaryLinear(8, 4), random(3, 8)
    expected = signs(flat) @ signs(linear.weight).T * linear.weight.abs().mean(1) + linear.bias
    torch.testing.assert_close(linear(flat), expected)


# ---- check 11: boxes

def test_boxes_of_the_sheet() -> None:
    centres = torch.tensor([[[2.0, 5.0], [2.0, 5.0], [3.0, 1.0]]])
    sizes = torch.tensor([[[0.8, 1.2], [0.8, 1.2], [1.0, 1.0]]])
    boxes = decode_boxes(PartBoxes(centres, sizes), PLANS['published'])[0] / 2
    expected = torch.tensor([[25.6, 121.6, 102.4, 198.4], [72.0, 8.0, 120.0, 56.0]])
    torch.testing.assert_close(boxes[[0, 2]], expected, rtol=0, atol=1e-4)


def test_bits_of_heat_maps_say_something() -> None:
    likely = soft_argmax(4 * random(100, 25, 8, 8, 6))[1].flatten(1, 2)
    assert (signs(likely) == 1).all(), 'without the shift all bits are +1'
    shares = (signs(around_uniform(likely)) == 1).float().mean((0, 2, 3))
    assert 0 < shares.min() and shares.max() < 1


def test_nothing_that_is_read_as_signs_is_positive_throughout() -> None:
    network = build_network(Variant())
    seen: dict[str, float] = {}

    def note(name: str):
        return lambda _, inputs: seen.__setitem__(name, float((inputs[0] >= 0).float().mean()))
    for name, module in network.box_net.named_modules():
        if isinstance(module, BINARY_LAYERS):
            module.register_forward_pre_hook(note(name))
    likely = soft_argmax(random(2, 25, 8, 8, 6))[1]
    network.box_net(random(2, 2048, 8, 6), likely)
    assert len(seen) == 5 and all(0.02 < share < 0.98 for share in seen.values()), seen


# ---- the rest of the layout

def test_expected_places_of_a_sharp_peak() -> None:
    volumes = torch.zeros(1, 2, 4, 5, 6)
    volumes[0, 0, 3, 2, 1] = volumes[0, 1, 0, 4, 5] = 50
    torch.testing.assert_close(soft_argmax(volumes)[0][0], torch.tensor([[1., 2, 3], [5, 4, 0]]))


def test_maps_are_read_at_cells() -> None:
    maps = random(1, 3, 8, 6)
    places = torch.tensor([[[5.0, 7.0], [0.0, 0.0], [2.0, 3.0], [2.5, 3.0]]])
    found = sampled(maps, places)[0]
    torch.testing.assert_close(found[:3], maps[0][:, [7, 0, 3], [5, 0, 2]].T)
    torch.testing.assert_close(found[3], maps[0][:, 3, 2:4].mean(1))


def test_depths_of_the_camera() -> None:
    found = translation(torch.tensor([[0.1, -0.2, 0.0], [0.0, 0.0, 50.0]]))
    torch.testing.assert_close(found[0], torch.tensor([0.1, -0.2, 56.38186 / 2]))
    assert float(found[1, 2]) == pytest.approx(56.38186, abs=1e-4)


def test_crops_of_whole_pixels_are_the_pixels_between() -> None:
    """RoIAlign without `aligned` puts a bin's middle half a pixel to the right of its first one."""
    image = random(1, 2, 12, 10)
    crop = roi_align(image, torch.tensor([[2.0, 3.0, 8.0, 9.0]]), 6)
    between = functional.avg_pool2d(image[..., 3:10, 2:9], 2, 1)
    torch.testing.assert_close(crop, between)


def test_crops_of_larger_boxes_average() -> None:
    image = random(1, 1, 20, 20)
    crop = roi_align(image, torch.tensor([[2.0, 2.0, 14.0, 14.0]]), 6)
    fine = roi_align(image, torch.tensor([[2.0, 2.0, 14.0, 14.0]]), 12)
    torch.testing.assert_close(crop, functional.avg_pool2d(fine, 2))


def test_far_outside_there_is_nothing() -> None:
    crop = roi_align(torch.ones(1, 1, 8, 8), torch.tensor([[-8.0, -8.0, 8.0, 8.0]]), 16)
    assert float(crop[0, 0, :7].abs().max()) == 0 and float(crop[0, 0, 9:, 9:].min()) == 1


def test_left_hands_are_turned_back() -> None:
    """Mirroring a rotation in x keeps what turns about x and reverses the rest."""
    joints = random(4, 20, 3)
    turn = torch.tensor([[0.3, -0.4, 0.7]] * 2, dtype=torch.float64)
    six = torch.from_numpy(matrix_to_6d(axis_angle_to_matrix(turn.numpy()))).reshape(2, 6)
    mirrored = turn * torch.tensor([1, -1, -1])
    expected = torch.from_numpy(matrix_to_6d(axis_angle_to_matrix(mirrored.numpy()))).reshape(2, 6)
    places, pose = restored(joints, six.repeat(2, 15).double(), 8)
    torch.testing.assert_close(pose[:, 0], expected.repeat(1, 15).double())
    torch.testing.assert_close(pose[:, 1], six.repeat(1, 15).double())
    torch.testing.assert_close(places[:, 0, :, 0], 7 - joints[:2, :, 0])
    torch.testing.assert_close(places[:, 1], joints[2:])


def test_a_binary_encoder_holds_the_tensors_of_a_plain_one() -> None:
    with torch.device('meta'):
        plain, binary = ResNet(RESNET50), BinaryResNet(RESNET50, Variant())
    theirs, ours = plain.state_dict(), binary.state_dict()
    assert {name: value.shape for name, value in theirs.items()} == {
        name: value.shape for name, value in ours.items() if '.act.' not in name}


@pytest.mark.parametrize('wrong', [
    {'shortcut': 'half'}, {'binary': ('foot',)}, {'residuals': ('all',)},
    {'plan': 'tiny'}, {'boxes': 'full', 'box_deconv3': 'binary'}])
def test_wrong_variants_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f'{list(wrong)[-1]} of bidrn'):
        Variant(**wrong)


@pytest.mark.parametrize('variant', [
    NAMED['bidrn'], HAND4WHOLE, *map(compact, ('bidrn', 'bnn', 'hand4whole', 'no_shortcut'))])
def test_a_picture_goes_through(variant: Variant) -> None:
    network, (height, width) = build_network(variant).eval(), variant.sizes.image
    picture = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found = network(picture)
    shapes = {name: tuple(value.shape[1:]) for name, value in found._asdict().items()}
    assert shapes == {
        'root': (6,), 'body_pose': (126,), 'left_hand': (90,), 'right_hand': (90,), 'jaw': (6,),
        'shape': (10,), 'expression': (10,), 'transl': (3,), 'body_joints': (25, 3),
        'hand_joints': (2, 20, 3), 'centres': (3, 2), 'sizes': (3, 2), 'boxes': (3, 4)}
    assert all(bool(torch.isfinite(value).all()) for value in found)


def test_compact_maps_are_as_fine_as_their_cells_say() -> None:
    sizes = compact('bidrn').sizes
    assert (sizes.body_cells, sizes.hand_cells) == ((8, 8, 6), (8, 4, 4))
    network = build_network(compact('bidrn')).eval()
    with torch.no_grad():
        body = network.backbone.last_map(torch.rand(1, 3, *sizes.body))
        hand = network.hand_roi_net(torch.rand(1, 3, sizes.hand, sizes.hand))
    assert body.shape == (1, 384, 8, 6) and hand.shape == (1, 384, 4, 4)


def test_compact_is_small() -> None:
    counts = count(compact('bidrn'))
    assert counts.effective_parameters < 2.2e6 and counts.effective_operations < 0.12
    published, small = (count(variant).operations for variant in (HAND4WHOLE, compact('hand4whole')))
    assert published / small == pytest.approx(19.3, abs=0.1)


def test_every_weight_learns() -> None:
    network = build_network(compact('bidrn')).train()
    found = network(torch.rand(2, 3, 256, 192, generator=torch.Generator().manual_seed(1)))
    sum(value.float().square().mean() for value in found if value.requires_grad).backward()
    idle = [name for name, value in network.named_parameters() if value.grad is None]
    assert not idle


# ---- rules of other binary networks

def test_bnn_has_no_scale_and_straight_gradients() -> None:
    layer, x = SignsAlone(3, 2, 3), random(1, 3, 5, 5).requires_grad_()
    with torch.no_grad():
        layer.weight.copy_(random(2, 3, 3, 3, seed=1))
    found = layer(x)
    torch.testing.assert_close(found, functional.conv2d(
        signs(x.detach()), signs(layer.weight.detach()), padding=1))
    found.sum().backward()
    passed = functional.conv_transpose2d(
        torch.ones_like(found), signs(layer.weight.detach()), padding=1)
    torch.testing.assert_close(x.grad, passed * (x.detach().abs() <= 1))


def test_xnor_scales_by_weights_and_by_what_it_reads() -> None:
    layer, x = ScaledBoth(4, 3, 3, 2), random(2, 4, 8, 6)
    found = layer(x)
    # Written out for one place, as the paper has it: windows of the input's mean sizes.
    window = functional.pad(x, (1, 1, 1, 1))[0, :, 2:5, 2:5]
    inside = window.abs().mean()
    weight = layer.weight[1].detach()
    expected = inside * weight.abs().mean() * (
        window.sign() * torch.where(weight >= 0, 1.0, -1.0)).sum()
    torch.testing.assert_close(found[0, 1, 1, 1].detach(), expected)


def test_scales_of_xnor_are_taught() -> None:
    layer = ScaledBoth(2, 1, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[[[3.0]], [[-5.0]]]]))
    layer(torch.ones(1, 2, 1, 1)).sum().backward()
    # Nothing passes the signs beyond 1, and the mean size has a gradient of sign / 2.
    assert layer.weight.grad.flatten().tolist() == [0.0, -0.0]
    layer.zero_grad()
    layer(torch.tensor([[[[1.0]], [[-1.0]]]])).sum().backward()
    assert layer.weight.grad.flatten().tolist() == [1.0, -1.0]


def test_levels_of_react_move_its_signs() -> None:
    layer, plain = ShiftedBinary(3, 2, 3), PlainBinary(3, 2, 3)
    x = random(1, 3, 5, 5)
    with torch.no_grad():
        plain.weight.copy_(layer.weight)
        layer.level.copy_(torch.tensor([0.5, -0.2, 0.1]))
    torch.testing.assert_close(layer(x), plain(x - layer.level[:, None, None]))


@pytest.mark.parametrize('method', ['bireal', 'react'])
def test_shortcuts_around_single_convolutions(method: str) -> None:
    """A block of dead norms passes on what it reads, and what its shortcut makes of that."""
    variant = compact(method)
    network = BinaryResNet(variant.sizes.body_net, variant).eval()
    same, halving = network.layer1[1], network.layer2[0]
    for block in (same, halving):
        for norm in (block.bn1, block.bn2):
            nn.init.zeros_(norm.weight)
    for module in (*same.modules(), *halving.modules()):
        if isinstance(module, ShiftedPReLU):
            nn.init.ones_(module.beta)
    x = random(1, 48, 8, 6)
    torch.testing.assert_close(same(x), x)
    torch.testing.assert_close(halving(x), halving.downsample(functional.hardtanh(x)))


def test_a_bottleneck_steps_over_its_middle_alone() -> None:
    network = BinaryResNet(RESNET50, NAMED['bireal']).eval()
    block, x = network.layer1[1], random(1, 256, 4, 4)
    nn.init.zeros_(block.bn2.weight)
    expected = x + block.bn3(block.conv3(block.bn1(block.conv1(x))))
    torch.testing.assert_close(block(x), expected)


def test_rules_of_others_are_for_networks_without_residuals() -> None:
    with pytest.raises(ValueError, match='method of bidrn is bnn'):
        Variant(method='bnn')
