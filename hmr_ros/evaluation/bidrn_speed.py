# SPDX-License-Identifier: Apache-2.0
"""How fast bidrn is on packed bits, beside the same network and Hand4Whole in floats."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
import tempfile
from typing import Any

import numpy as np
import torch
from torch import nn

from hmr_ros.evaluation.popcount_limit import popcount_limit
from hmr_ros.networks.bidrn import build_network, HAND4WHOLE, NAMED, WholeBody
from hmr_ros.networks.bidrn.layout import Plan, PLANS
from hmr_ros.runtime.benchmark import times_ms
from hmr_ros.runtime.engine import TensorSpec
from hmr_ros.runtime.onnx_engine import open_session
from hmr_ros.runtime.packed_bits import pack_weights, PackedKernel
from hmr_ros.runtime.packed_file import PackedFile
from hmr_ros.runtime.packed_layers import line_rows, PackedLayer, Signal, Workplace
from hmr_ros.runtime.packed_network import PackedWholeBody
from hmr_ros.training.bidrn.binary_graph import split_binary
from hmr_ros.training.bidrn.export import deployable, EXACT, export_network
from hmr_ros.training.bidrn.packing import encoder_plan, write_network
from hmr_ros.training.onnx_export import write_onnx

Work = Callable[[], object]
#: ways to run a network, of which the first is compared with the others.
PACKED, SAME, HAND = WAYS = ('packed', 'bits as floats', 'hand4whole')


class Maps(nn.Module):
    """An encoder alone."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Pictures to the last map."""
        return self.encoder.last_map(image)


def benchmark_bidrn(
        plan: str, seconds: float, threads: int = 1,
        tell: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """
    Time networks and layers of a plan in turns, `seconds` for each row; random weights, one person.

    Returns limit_gmacs, products of bits a second in 1e9 that one thread can count;
    networks, rows of part, way, p50_ms, best_ms and their ratio to packed; layers, rows of layer,
    packed_ms, float_ms, ratio, gmacs, share_of_limit. Ratios are of the best times, for they say
    least of what else the machine does.
    """
    tell('how fast this processor counts bits')
    limit = popcount_limit()
    with tempfile.TemporaryDirectory() as folder:
        networks = list(_network_rows(plan, Path(folder), seconds, threads, tell))
        layers = list(_layer_rows(plan, Path(folder), seconds, threads, limit, tell))
    return {'plan': plan, 'threads': threads, 'limit_gmacs': limit, 'networks': networks,
            'layers': layers}


# ---- networks

def _network_rows(
        plan: str, folder: Path, seconds: float, threads: int,
        tell: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    tell('exporting networks')
    binary, full = (_settled(replace(variant, plan=plan, box_deconv3=third)) for variant, third in (
        (NAMED['bidrn'], 'none' if plan == 'compact' else 'full'), (HAND4WHOLE, 'full')))
    write_network(binary, folder / 'it')
    packed = PackedWholeBody(
        PackedFile((folder / 'it').read_bytes(), folder / 'it'), Workplace(threads))
    works: dict[tuple[str, str], Work] = {}
    for part, image in _pictures(binary.variant.sizes).items():
        works[part, PACKED] = lambda part=part, image=image: (
            packed(image) if part == 'whole' else packed.encode(part, image))
        for way, network in ((SAME, binary), (HAND, full)):
            path = _exported(network, part, image, folder / 'it.onnx')
            works[part, way] = _session(path, image, threads)
    for part in ('whole', 'body', 'hand', 'face'):
        tell(f'networks: {part}')
        times = times_ms([works[part, way] for way in WAYS], seconds)[:, 1:]
        for way, row in zip(WAYS, times):
            yield {'part': part, 'way': way, 'p50_ms': float(np.median(row)),
                   'best_ms': float(row.min()),
                   'ratio': float(row.min() / times[0].min())}
    packed.close()


def _settled(variant: Any) -> WholeBody:
    """Build a network whose values stay of one size, for numbers near 0 can be slow."""
    torch.manual_seed(0)
    network = build_network(variant)
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.kaiming_normal_(module.weight)
    with torch.no_grad():
        network.train()(torch.rand(2, 3, *variant.sizes.image))
    return network.eval()


def _encoder(network: WholeBody, part: str) -> nn.Module:
    return network.backbone if part == 'body' else getattr(network, f'{part}_roi_net').backbone


def _pictures(sizes: Plan) -> dict[str, np.ndarray]:
    """What the network and the encoders of one person see."""
    rng = np.random.default_rng(0)
    shapes = {'whole': (1, 3, *sizes.image), 'body': (1, 3, *sizes.body),
              'hand': (2, 3, sizes.hand, sizes.hand), 'face': (1, 3, sizes.face, sizes.face)}
    return {part: rng.random(shape, np.float32) for part, shape in shapes.items()}


def _exported(network: WholeBody, part: str, image: np.ndarray, path: Path) -> Path:
    """Write a network or one of its encoders as engines are written."""
    if part == 'whole':
        return export_network(network, path, 'float32')
    return _written(Maps(_encoder(network, part)), image, path)


def _written(module: nn.Module, image: np.ndarray, path: Path) -> Path:
    with torch.no_grad():
        found = module(torch.from_numpy(image))
    inputs, outputs = (
        [TensorSpec(name, (-1, *array.shape[1:]), 'float32')]
        for name, array in (('image', image), ('found', found)))
    return write_onnx(deployable(module), inputs, outputs, path, 'float32', EXACT, split_binary)


def _session(path: Path, image: np.ndarray, threads: int) -> Work:
    session = open_session(path.read_bytes(), path, threads)
    return lambda: session.run(None, {'image': image})


# ---- layers

@dataclass(frozen=True)
class Size:
    """A convolution: rows and columns of what it reads, channels, taps of a side, stride."""

    height: int
    width: int
    channels: int
    out: int
    side: int
    stride: int

    def __str__(self) -> str:
        step = '/2' if self.stride == 2 else ''
        return (f'{self.side}x{self.side}{step} {self.channels}->{self.out} '
                f'@{self.height}x{self.width}')

    @property
    def products(self) -> float:
        """Products of bits, in 1e9."""
        return (self.height * self.width * self.channels * self.out * self.side ** 2
                / self.stride ** 2 / 1e9)


def layer_sizes(plan: str) -> list[Size]:
    """Sizes of the binary convolutions of the body's encoder, each once."""
    variant = replace(NAMED['bidrn'], plan=plan)
    with torch.device('meta'):
        blocks = encoder_plan(WholeBody(variant).backbone)
    height, width = (side // 4 for side in variant.sizes.body)
    sizes: dict[Size, None] = {}
    for block in blocks:
        for channels, out, side, stride in block:
            sizes[Size(height, width, channels, out, side, stride)] = None
            height, width = height // stride, width // stride
    return list(sizes)


def _layer_rows(
        plan: str, folder: Path, seconds: float, threads: int, limit: float,
        tell: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    place = Workplace(threads)
    for size in layer_sizes(plan):
        tell(f'layers: {size}')
        image = np.random.default_rng(0).standard_normal(
            (1, size.channels, size.height, size.width), np.float32)
        conv = nn.Conv2d(size.channels, size.out, size.side, size.stride, size.side // 2)
        layer = _packed_layer(conv)
        signal = Signal.of(np.ascontiguousarray(image.transpose(0, 2, 3, 1)))
        works = [lambda layer=layer, signal=signal: layer(place, signal),
                 _session(_written(conv, image, folder / 'it.onnx'), image, threads)]
        packed, floats = (float(row.min()) for row in times_ms(works, seconds)[:, 1:])
        speed = size.products / packed * 1e3
        yield {'layer': str(size), 'packed_ms': packed, 'float_ms': floats,
               'ratio': floats / packed, 'gmacs': speed, 'share_of_limit': speed / limit}
    place.close()


def _packed_layer(conv: nn.Conv2d) -> PackedLayer:
    """The same convolution on bits, with its shortcut, bend and norm."""
    branches = max(1, conv.in_channels // conv.out_channels)
    rows = line_rows(np.ones(conv.out_channels), np.zeros(conv.out_channels))
    kernel = PackedKernel.of(
        pack_weights(conv.weight.detach().numpy(), branches), conv.in_channels // branches,
        conv.kernel_size)
    return PackedLayer.of(kernel, np.stack([rows] * branches),
                          np.ones(conv.out_channels, np.float32), conv.stride[0])
