# SPDX-License-Identifier: Apache-2.0
"""What the whole-body network knows when its training begins."""

from __future__ import annotations

from collections.abc import Iterable
import itertools
import logging

import torch
from torch import nn

from hmr_ros.networks.bidrn import build_network, WholeBody
from hmr_ros.networks.bidrn.binarization import BINARY_LAYERS
from hmr_ros.networks.bidrn.crops import decode_boxes, roi_align
from hmr_ros.networks.bidrn.encoders import BinaryResNet
from hmr_ros.networks.bidrn.network import every_second
from hmr_ros.networks.resnet import ResNet
from hmr_ros.training import weights_file
from hmr_ros.training.bidrn.config import WholeBodyConfig
from hmr_ros.training.bidrn.module import shown
from hmr_ros.training.bidrn.targets import Targets
from hmr_ros.training.bidrn.weights import read_facts
from hmr_ros.training.checkpoint_file import transfer
from hmr_ros.training.engine_start import start_as_engine
from hmr_ros.training.keypoint_guided.weights import WeightsFacts

#: how the pictures that trunks have learned from were normalised.
_FACTS = WeightsFacts()
People = Iterable[dict[str, torch.Tensor]]
#: batches that the statistics of an engine's norms are taken from.
_MEASURED = 8
#: where trunks are in an engine of keypoint_guided, by where encoders are here.
_TRUNKS = {'backbone': 'backbone', 'hand_roi_net': '', 'face_roi_net': ''}
#: share of the weights of a layer that stay below what spread_latents says.
_MOST = 0.99


def beginning(config: WholeBodyConfig, batches: People) -> WholeBody:
    """Build the network as the configuration has it begin; `batches` are what it will see."""
    network = build_network(config.variant)
    if config.init == 'kaiming':
        draw_latents(network)
    foreign = bool(config.start_engine)
    if config.start_engine:
        begin_as_engine(network, config.start_engine, batches)
    if config.start_from:
        done = transfer(weights_file.network_tensors(config.start_from), network)
        logging.getLogger(__name__).info('start from %s: %s', config.start_from, done.summary)
        foreign = foreign or not read_facts(config.start_from).variant.binary
    if foreign and config.latent_spread:
        spread_latents(network, config.latent_spread)
    return network.train()


def _binary_layers(network: nn.Module) -> list[nn.Module]:
    return [module for module in network.modules() if isinstance(module, BINARY_LAYERS)]


def draw_latents(network: WholeBody) -> None:
    """Draw binary weights by their fan-out (He et al. 2015), so that scales are not tiny."""
    for layer in _binary_layers(network):
        nn.init.kaiming_normal_(layer.weight, mode='fan_out')


def spread_latents(network: WholeBody, largest: float) -> None:
    """
    Multiply binary weights so that, layer by layer, all but a hundredth are below `largest`.

    Adam moves weights by about its rate, whatever their size. Weights of floats are a few
    hundredths: within some hundred steps all signs could change, and with them what they knew.
    Spread to +-1, as far as gradients pass, those that are sure stay, and those near zero decide
    first. Scales of outputs grow alike: what a norm follows does not care, but convolutions
    outweigh the shortcuts that the same norm covers.
    """
    with torch.no_grad():
        for layer in _binary_layers(network):
            size = layer.weight.abs().flatten().kthvalue(
                max(1, round(_MOST * layer.weight.numel()))).values
            layer.weight.mul_(largest / size)


def begin_as_engine(network: WholeBody, engine: str, batches: People) -> None:
    """
    Let all three encoders begin as the trunk of a compact keypoint_guided.

    Those of floats do what the trunk does, but for their first layer's border: the trunk pads with
    the mean colour, they pad with black. In binary ones, stems do, kernels become latent weights,
    and norms begin anew: theirs belong to sums of floats.
    """
    some = list(itertools.islice(batches, _MEASURED))

    def run() -> None:
        for batch in some:
            _run_encoders(network, batch)
    start_as_engine(network, engine, _TRUNKS, run)
    for encoder in (network.backbone, network.hand_roi_net.backbone, network.face_roi_net.backbone):
        _read_unnormalised(encoder)
        if isinstance(encoder, BinaryResNet):
            _begin_norms_anew(encoder)


def _run_encoders(network: WholeBody, batch: dict[str, torch.Tensor]) -> None:
    """Show them the crops of true boxes, normalised as the trunk was trained."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (_FACTS.mean, _FACTS.std))
    image, sizes = (shown(batch['image']) - mean) / std, network.variant.sizes
    boxes = decode_boxes(Targets.of(batch, sizes).boxes, sizes)
    network.backbone.last_map(every_second(image, sizes))
    left, right = (roi_align(image, boxes[:, row], sizes.hand) for row in (0, 1))
    network.hand_roi_net(torch.cat([left.flip(3), right]))
    network.face_roi_net(roi_align(image, boxes[:, 2], sizes.face))


def _read_unnormalised(encoder: ResNet | BinaryResNet) -> None:
    """Put the normalisation of pictures into the first convolution and its norm."""
    mean, std = (torch.tensor(values) for values in (_FACTS.mean, _FACTS.std))
    with torch.no_grad():
        encoder.conv1.weight.div_(std[:, None, None])
        encoder.bn1.running_mean.add_((encoder.conv1.weight.sum((2, 3)) * mean).sum(1))


def _begin_norms_anew(encoder: BinaryResNet) -> None:
    for layer in (encoder.layer1, encoder.layer2, encoder.layer3, encoder.layer4):
        for module in layer.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.reset_parameters()
