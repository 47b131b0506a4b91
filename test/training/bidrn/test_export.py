# SPDX-License-Identifier: Apache-2.0
"""Engines of bidrn compute what the networks do (check 10), in one graph without Sign."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

from hypothesis import given, settings, strategies as st
import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='networks need torch')
onnx = pytest.importorskip('onnx', reason='export needs onnx')
onnxruntime = pytest.importorskip('onnxruntime', reason='the files are run by onnxruntime')
from onnx import helper, numpy_helper, TensorProto  # noqa: E402
from torch import nn  # noqa: E402
from whole_people import fabricated_body  # noqa: E402

from hmr_ros.body import load_whole_body  # noqa: E402
from hmr_ros.networks.bidrn import build_network, compact, NAMED, WholeBody  # noqa: E402
from hmr_ros.networks.bidrn.binarization import (  # noqa: E402
    activation_bits, BINARY_LAYERS, ShiftedPReLU)
from hmr_ros.networks.bidrn.crops import roi_align  # noqa: E402
from hmr_ros.networks.bidrn.encoders import BinaryResNet  # noqa: E402
from hmr_ros.networks.bidrn.network import WholePerson  # noqa: E402
from hmr_ros.networks.bidrn.residuals import PlainBinary, ShiftedBinary  # noqa: E402
from hmr_ros.networks.resnet import RESNET50  # noqa: E402
from hmr_ros.runtime import load_engine  # noqa: E402
from hmr_ros.runtime.engine import TensorSpec  # noqa: E402
from hmr_ros.training.bidrn.binary_graph import (  # noqa: E402
    binary_nodes, quantize_binary, split_binary)
from hmr_ros.training.bidrn.export import (  # noqa: E402
    deployable, export_engine, export_network)
from hmr_ros.training.bidrn.weights import WholeBodyFacts  # noqa: E402
from hmr_ros.training.errors import TrainingError  # noqa: E402
from hmr_ros.training.onnx_export import OPSET, write_onnx  # noqa: E402

pytestmark = pytest.mark.torch


def settled(network: nn.Module) -> nn.Module:
    """Values as training might leave them."""
    torch.manual_seed(2)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.2)
        elif isinstance(module, ShiftedPReLU):
            for value in (module.gamma, module.zeta):
                nn.init.normal_(value, 0, 0.3)
        elif isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.kaiming_normal_(module.weight)
    return network.eval()


def session(content: str | bytes) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(content, providers=['CPUExecutionProvider'])


class LastMap(nn.Module):
    """An encoder as a module of its own."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.encoder.last_map(image)


def written(
        module: nn.Module, shape: tuple[int, ...], result: tuple[int, ...], path: Path,
        rewrite: Callable[[onnx.GraphProto], None]) -> onnx.ModelProto:
    write_onnx(deployable(module), (TensorSpec('image', (-1, *shape), 'float32'),),
               (TensorSpec('map', (-1, *result), 'float32'),), path, 'float32', rewrite=rewrite)
    return onnx.load(path)


# ---- signs

def test_zero_is_plus_one_in_onnxruntime(tmp_path: Path) -> None:
    class Bits(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return activation_bits(x)
    model = written(Bits(), (4,), (4,), tmp_path / 'bits.onnx', split_binary)
    assert 'Sign' not in {node.op_type for node in model.graph.node}
    x = np.float32([[-1e-6, -0.0, 0.0, 1e-6]])
    assert session(str(tmp_path / 'bits.onnx')).run(None, {'image': x})[0].tolist() == [
        [-1, 1, 1, 1]]


# ---- encoders, layer by layer

def encoder_of(row: str) -> tuple[nn.Module, tuple[int, ...], tuple[int, ...]]:
    if row == 'resnet50':
        return BinaryResNet(RESNET50, NAMED['bidrn']), (3, 64, 64), (2048, 2, 2)
    variant = compact(row)
    return BinaryResNet(variant.sizes.body_net, variant), (3, 128, 96), (384, 8, 6)


@pytest.mark.parametrize('row', ['bidrn', 'bnn', 'xnor', 'react', 'resnet50'])
def test_encoders_equal_torch(
        row: str, tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    encoder, shape, result = encoder_of(row)
    settled(encoder)
    path = tmp_path / 'encoder.onnx'
    model = written(LastMap(encoder), shape, result, path, split_binary)
    assert 'Sign' not in {node.op_type for node in model.graph.node}
    image = torch.rand(2, *shape, generator=torch.Generator().manual_seed(1))
    theirs, found = bits_of_graph(model, image)
    ours, expected = bits_of_torch(encoder, image)
    assert len(theirs) == len(ours) == sum(
        isinstance(m, BINARY_LAYERS) for m in encoder.modules())
    flips = 0
    for bits, x in zip(theirs, ours):
        flipped = bits != np.where(x >= 0, 1, -1)
        # Behind a flipped bit everything may differ.
        assert flips or np.abs(x[flipped]).max(initial=0) < 1e-5
        flips += int(flipped.sum())
    rate = flips / sum(bits.size for bits in theirs)
    record_property('flipped_bits', rate)
    assert rate < 0.02
    if not flips:
        assert np.abs(found - expected).max() <= 1e-3 * np.abs(expected).max()


def bits_of_graph(
        model: onnx.ModelProto, image: torch.Tensor) -> tuple[list[np.ndarray], np.ndarray]:
    """What onnxruntime finds before binary layers, and in the end."""
    results = [node.output[0] for node in model.graph.node if node.op_type == 'Where']
    model.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in results)
    found, *bits = session(model.SerializeToString()).run(None, {'image': image.numpy()})
    return bits, found


def bits_of_torch(
        encoder: nn.Module, image: torch.Tensor) -> tuple[list[np.ndarray], np.ndarray]:
    """What signs are taken of, in the order in which it is computed."""
    read: list[np.ndarray] = []

    def listen(layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        level = layer.level[:, None, None] if isinstance(layer, ShiftedBinary) else 0.0
        read.append((inputs[0] - level).numpy())
    hooks = [layer.register_forward_pre_hook(listen) for layer in encoder.modules()
             if isinstance(layer, BINARY_LAYERS)]
    with torch.no_grad():
        expected = encoder.last_map(image).numpy()
    for hook in hooks:
        hook.remove()
    return read, expected


# ---- weights of the file

@pytest.mark.parametrize('row', ['bidrn', 'react'])
def test_weights_are_signs_with_their_scale_behind(row: str, tmp_path: Path) -> None:
    network = settled(build_network(compact(row)))
    graph = onnx.load(export_network(network, tmp_path / 'engine.onnx', 'float16')).graph
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    cast = {node.output[0]: node.input[0] for node in graph.node if node.op_type == 'Cast'}
    readers = {name: node for node in graph.node for name in node.input}
    signs = {node.output[0] for node in graph.node if node.op_type == 'Where'}
    layers = [node for node in graph.node if node.input and node.input[0] in signs]
    assert len(layers) == sum(isinstance(m, BINARY_LAYERS) for m in network.modules())
    for node in layers:
        weight = tensors[cast[node.input[1]]]
        assert weight.dtype == np.int8 and set(np.unique(weight)) == {-1, 1}
        scale = readers[node.output[0]]
        assert scale.op_type == 'Mul' and len(node.input) == 2
        assert tensors[scale.input[1]].dtype == np.float32
    assert not {'Sign', 'Loop', 'If'} & {node.op_type for node in graph.node}
    assert Counter(node.op_type for node in graph.node)['RoiAlign'] == 3


@pytest.mark.parametrize('size', [(512, 512, 3), (1024, 256, 1)])
def test_int8_layers_equal_float_ones(size: tuple[int, int, int], tmp_path: Path) -> None:
    """At K = 4,608 and scales up to 1.5 (check 10)."""
    channels, out, kernel = size
    layer = PlainBinary(channels, out, kernel)
    sizes = torch.rand(out, 1, 1, 1, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        layer.weight.div_(layer.weight.abs().mean((1, 2, 3), keepdim=True)).mul_(1.5 * sizes)
    image = np.random.default_rng(1).normal(size=(1, channels, 8, 6)).astype(np.float32)
    image[0, :, 0] = 0
    found = {}
    for rewrite in (split_binary, quantize_binary):
        model = written(layer, image.shape[1:], (out, 8, 6), tmp_path / 'layer.onnx', rewrite)
        found[rewrite] = session(model.SerializeToString()).run(None, {'image': image})[0]
    kinds = Counter(node.op_type for node in model.graph.node)
    assert kinds['QuantizeLinear'] == 1 and kinds['DequantizeLinear'] == 2
    with torch.no_grad():
        expected = layer(torch.from_numpy(image)).numpy()
    assert np.abs(expected).max() > 50
    np.testing.assert_allclose(found[split_binary], expected, atol=2e-4)
    np.testing.assert_allclose(found[quantize_binary], found[split_binary], atol=2e-4)


def test_layers_of_floats_are_left_alone() -> None:
    weight = numpy_helper.from_array(np.float32([[[[0.5]], [[-0.25]]]]), 'w')
    nodes = [helper.make_node('Where', ['k', 'a', 'b'], ['bits']),
             helper.make_node('Conv', ['bits', 'w'], ['y'])]
    graph = helper.make_graph(nodes, 'floats', [], [], [weight])
    assert not list(binary_nodes(graph))


# ---- crops

BOX = st.tuples(st.floats(-150, 250), st.floats(-150, 250), st.floats(0, 250), st.floats(0, 250))


@settings(max_examples=40, deadline=None)
@given(boxes=st.lists(BOX, min_size=1, max_size=4), size=st.sampled_from([8, 33]))
def test_crops_are_those_of_onnx(boxes: list[tuple[float, ...]], size: int) -> None:
    corners = np.float32([(x, y, x + width, y + height) for x, y, width, height in boxes])
    image = np.random.default_rng(0).random((len(boxes), 3, 96, 64), np.float32)
    node = helper.make_node(
        'RoiAlign', ['image', 'boxes', 'rows'], ['crops'], mode='avg', output_height=size,
        output_width=size, sampling_ratio=0, spatial_scale=1.0,
        coordinate_transformation_mode='output_half_pixel')
    kinds = {'image': TensorProto.FLOAT, 'boxes': TensorProto.FLOAT, 'rows': TensorProto.INT64}
    graph = helper.make_graph(
        [node], 'crops', [helper.make_tensor_value_info(name, kind, None)
                          for name, kind in kinds.items()],
        [helper.make_tensor_value_info('crops', TensorProto.FLOAT, None)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', OPSET)],
                              ir_version=9)
    rows = np.arange(len(boxes))
    expected = session(model.SerializeToString()).run(
        None, {'image': image, 'boxes': corners, 'rows': rows})[0]
    found = roi_align(torch.from_numpy(image), torch.from_numpy(corners), size)
    # Samples on a border may fall to either side of it.
    wrong = np.abs(found.numpy() - expected) > 2e-4
    assert wrong.mean() < 0.01


# ---- engines

def floats(folder: Path) -> tuple[WholeBody, WholeBodyFacts]:
    network = settled(build_network(compact('hand4whole')))
    for part in ('lhand', 'rhand', 'face'):
        nn.init.ones_(network.box_net.get_submodule(f'{part}_size')[2].bias)
    return network, WholeBodyFacts('hand4whole', asdict(network.variant))


@pytest.mark.parametrize('backend', ['onnxruntime', 'torch'])
def test_engines_equal_the_network(backend: str, tmp_path: Path) -> None:
    network, facts = floats(tmp_path)
    entry = export_engine(
        network, load_whole_body(), tmp_path, 'people', 'float32', facts)
    assert (entry.network, entry.body_model) == ('bidrn', 'open_whole_body')
    assert list(entry.outputs) == list(WholePerson._fields)
    engine = load_engine(str(tmp_path / 'people.onnx'), backend=backend)
    for people in (1, 3):
        # Smooth, for noise would make much of where exactly crops lie.
        image = nn.functional.interpolate(
            torch.rand(people, 3, 8, 6), (256, 192), mode='bilinear')
        found = engine.run({'image': image.numpy()})
        with torch.no_grad():
            expected = network(image)
        for name, value in zip(expected._fields, expected):
            assert found[name].shape == tuple(value.shape)
            np.testing.assert_allclose(
                found[name], value, rtol=1e-3, atol=1e-3 * float(value.abs().max()),
                err_msg=name)


def test_weights_of_another_body_are_refused(tmp_path: Path) -> None:
    network, facts = floats(tmp_path)
    with pytest.raises(TrainingError, match="body model 'open_whole_body', but 'SMPLX_NEUTRAL'"):
        export_engine(network, fabricated_body(tmp_path), tmp_path, 'people', facts=facts)
    with pytest.raises(TrainingError, match="body model 'smplx', but 'open_whole_body'"):
        export_engine(network, load_whole_body(), tmp_path, 'people',
                      facts=replace(facts, body_model='smplx'))
