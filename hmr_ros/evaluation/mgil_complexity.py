# SPDX-License-Identifier: Apache-2.0
"""Sizes of the pose networks of mgil beside the sheet's (section 7)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from hmr_ros.networks.mgil import build_pose, NAMED, square
from hmr_ros.networks.mgil.detector import build_detector, DetectorVariant
from hmr_ros.networks.mgil.pose import BACKBONES

SIZES = (32, 64, 128)
CHOICES: dict[str, tuple[Any, ...]] = {
    'backbone': tuple(BACKBONES), 'downsampling': tuple(NAMED), 'size': SIZES}
#: parameters in millions, GMAC at 32, 64 and 128 pixels, by backbone and downsampling.
SHEET: dict[tuple[str, str], tuple[tuple[float, ...], tuple[float, ...]]] = {
    ('w32', 'strided'): ((28.549, 28.635, 29.061), (0.1595, 0.6388, 2.5572)),
    ('w32', 'spd'): ((36.185, 36.271, 36.697), (0.1986, 0.7954, 3.1836)),
    ('w32', 'flie'): ((42.783, 42.869, 43.295), (0.2285, 0.9148, 3.6614)),
    ('w32', 'flie3'): ((49.372, 49.459, 49.885), (0.2583, 1.0342, 4.1392)),
    ('w32', 'add21'): ((55.962, 56.048, 56.474), (0.2882, 1.1537, 4.6169)),
    ('w32', 'mgil'): ((62.569, 62.656, 63.082), (0.3181, 1.2732, 5.0947)),
    ('w32', 'mgil33'): ((75.748, 75.834, 76.260), (0.3779, 1.5121, 6.0502)),
    ('w32', 'lite'): ((33.612, 33.698, 34.125), (0.2310, 0.9248, 3.7015)),
    ('w48', 'strided'): ((63.608, 63.694, 64.121), (0.3271, 1.3093, 5.2395)),
    ('w48', 'spd'): ((80.313, 80.399, 80.825), (0.3994, 1.5984, 6.3959)),
    ('w48', 'mgil'): ((139.261, 139.347, 139.773), (0.6092, 2.4375, 9.7521)),
    ('w48', 'lite'): ((74.149, 74.236), (0.4132, 1.6538)),
    ('resnet50', 'strided'): ((34.012, 34.098, 34.524), (0.1133, 0.4539, 1.8177)),
    ('resnet50', 'spd'): ((43.447, 43.533, 43.959), (0.1433, 0.5740, 2.2982)),
    ('resnet50', 'mgil'): ((56.142, 56.229, 56.655), (0.2188, 0.8760, 3.5062))}

#: parameters and GMAC of detectors of one class and YOLOv5n's width, at DETECTOR_SIZE pixels.
DETECTORS: dict[str, tuple[int, float]] = {
    'strided': (1_765_270, 2.064), 'spd': (3_493_270, 3.834), 'mgil': (7_382_883, 9.024)}
DETECTOR_SIZE = 640


def count(network: nn.Module, height: int, width: int) -> tuple[int, float]:
    """
    Parameters, and GMAC of convolutions and matrix products for one picture.

    Transposed convolutions are counted per pixel that they read. The network is switched to
    evaluation mode, and may be on the device meta.
    """
    image = torch.zeros(1, 3, height, width, device=next(network.parameters()).device)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        network.eval()(image)
    return sum(p.numel() for p in network.parameters()), counter.get_total_flops() / 2e9


def describe(
        backbone: str = 'small', downsampling: str = 'mgil', size: int = 64) -> dict[str, Any]:
    """
    Parameters, by module too, and GMAC of a pose network with 17 keypoints.

    backbone, downsampling, size  one of CHOICES each; size in pixels of the square crop
    """
    variant = square(backbone, NAMED[downsampling], size)
    with torch.device('meta'):
        network = build_pose(variant)
    parameters, gmacs = count(network, size, size)
    return {
        'network': 'mgil', 'backbone': backbone, 'downsampling': downsampling, 'size': size,
        'split_ratio': variant.split_ratio, 'parameters': parameters,
        'parameters_by_module': {
            name: sum(p.numel() for p in module.parameters())
            for name, module in network.named_children()},
        'gmacs': gmacs, 'paper': _sheet(backbone, downsampling, size)}


def describe_detector(
        width: float = 1.0, downsampling: str = 'mgil', size: int = DETECTOR_SIZE
        ) -> dict[str, Any]:
    """
    Parameters and GMAC of the person detector for a square picture of `size` pixels.

    Raises ValueError for a width that DetectorVariant refuses.
    """
    with torch.device('meta'):
        network = build_detector(DetectorVariant(width, NAMED[downsampling]))
    parameters, gmacs = count(network, size, size)
    published = DETECTORS.get(downsampling) if width == 1 and size == DETECTOR_SIZE else None
    return {
        'network': 'mgil_detector', 'width': width, 'downsampling': downsampling, 'size': size,
        'parameters': parameters, 'gmacs': gmacs,
        'paper': dict(zip(('parameters', 'gmacs'), published)) if published else {}}


def _sheet(backbone: str, downsampling: str, size: int) -> dict[str, float]:
    """Counts of the sheet, for the paper has none; empty where the sheet has none either."""
    row, column = SHEET.get((backbone, downsampling), ((), ())), SIZES.index(size)
    if column >= len(row[0]):
        return {}
    return {'parameters_m': row[0][column], 'gmacs': row[1][column]}
