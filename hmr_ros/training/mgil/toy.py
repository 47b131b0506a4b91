# SPDX-License-Identifier: Apache-2.0
"""Stick figures of 32 pixels: which downsampling finds joints (sheet, section 8, check 13)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
import math
from pathlib import Path
import tempfile

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from hmr_ros.networks.mgil import Downsampling
from hmr_ros.networks.mgil.deploy import deployable
from hmr_ros.networks.mgil.downsampling import replace_downsampling
from hmr_ros.networks.residual_blocks import BasicBlock, chain
from hmr_ros.perception.simcc import decode, probabilities
from hmr_ros.runtime.engine import TensorSpec
from hmr_ros.training.mgil.losses import simcc_loss
from hmr_ros.training.mgil.targets import smoothed_targets
from hmr_ros.training.onnx_export import write_onnx
from hmr_ros.training.quantization import (
    calibrate, float_network, quantizable, quantized, TARGETS)
from hmr_ros.training.sensitivity import runner

SIZE, SPLIT_RATIO, WIDTH = 32, 2, 32
BINS = (SPLIT_RATIO * SIZE, SPLIT_RATIO * SIZE)
HEAD, NECK, PELVIS, ELBOWS, HANDS, FEET = 0, 1, 2, (3, 5), (4, 6), (7, 8)
JOINTS = 9
_WHITE, _RED, _BLUE = (0.9, 0.9, 0.9), (1, 0.35, 0.35), (0.35, 0.35, 1)
#: ends and colour of each limb, in the order they are drawn.
LIMBS = ((HEAD, NECK, _WHITE), (NECK, PELVIS, _WHITE), *(
    limb for elbow, hand, foot, colour in zip(ELBOWS, HANDS, FEET, (_RED, _BLUE))
    for limb in ((NECK, elbow, colour), (elbow, hand, colour), (PELVIS, foot, colour))))
_LIMB_WIDTH, _CLUTTER_WIDTH, _CLUTTER_LINES = 0.55, 0.5, 3
#: pictures that are drawn at once, and that calibration sees at once.
_CHUNK, _CALIBRATED = 2048, 64
_OUTPUTS = ('simcc_x', 'simcc_y')


@dataclass(frozen=True)
class Figures:
    """
    Pictures and their joints.

    images  (N, 3, 32, 32)  normalised, float32
    joints  (N, 9, 2)       pixels, float32
    """

    images: torch.Tensor
    joints: torch.Tensor


@dataclass(frozen=True)
class Score:
    """
    How well joints are found.

    pck            percent of joints within one pixel
    mean_error_px  mean distance
    """

    pck: float
    mean_error_px: float


def figures(count: int, seed: int) -> Figures:
    """Draw `count` stick figures in clutter."""
    rng = np.random.default_rng(seed)
    joints = _joints(rng, count)
    images = [_pictures(rng, joints[i:i + _CHUNK]) for i in range(0, count, _CHUNK)]
    return Figures(torch.from_numpy(np.concatenate(images)), torch.from_numpy(joints))


def _direction(angle: np.ndarray) -> np.ndarray:
    return np.stack([np.sin(angle), np.cos(angle)], axis=-1)


def _joints(rng: np.random.Generator, count: int) -> np.ndarray:
    def uniform(low: float, high: float) -> np.ndarray:
        return rng.uniform(low, high, count)

    size = uniform(5, 7.5)[:, None]
    centre = np.stack([uniform(11, 21), uniform(12, 19)], axis=-1)
    tilt = uniform(-0.5, 0.5)
    joints = np.empty((count, JOINTS, 2))
    joints[:, NECK] = centre - 0.6 * size * _direction(tilt)
    joints[:, PELVIS] = centre + 0.5 * size * _direction(tilt)
    joints[:, HEAD] = joints[:, NECK] - 0.55 * size * _direction(tilt + uniform(-0.4, 0.4))
    for side, elbow, hand, foot in zip((1, -1), ELBOWS, HANDS, FEET):
        arm = tilt + side * uniform(0.2, 2.6)
        joints[:, elbow] = joints[:, NECK] + 0.6 * size * _direction(arm)
        joints[:, hand] = joints[:, elbow] + 0.6 * size * _direction(arm + uniform(-1.5, 1.5))
        leg = tilt + side * uniform(0, 1.1)
        joints[:, foot] = joints[:, PELVIS] + 1.1 * size * _direction(leg)
    return np.clip(joints, 1, SIZE - 2).astype(np.float32)


def _pictures(rng: np.random.Generator, joints: np.ndarray) -> np.ndarray:
    """Draw `(N, 3, 32, 32)` around joints `(N, 9, 2)`."""
    count = len(joints)
    coarse = torch.from_numpy(rng.normal(size=(count, 3, 6, 6)).astype(np.float32))
    clouds = functional.interpolate(coarse, (SIZE, SIZE), mode='bilinear', align_corners=False)
    images = rng.uniform(0, 0.35, (count, 3, 1, 1)) + 0.12 * clouds.numpy()
    for _ in range(_CLUTTER_LINES):
        start = rng.uniform(0, SIZE, (count, 2))
        end = start + 7 * rng.normal(size=(count, 2))
        _draw(images, start, end, rng.uniform(0, 0.6, (count, 3)), _CLUTTER_WIDTH)
    for first, second, colour in LIMBS:
        shade = rng.uniform(0.6, 1, (count, 1)) * colour
        _draw(images, joints[:, first], joints[:, second], shade, _LIMB_WIDTH)
    images += 0.08 * rng.normal(size=images.shape)
    return ((images - 0.35) / 0.3).astype(np.float32)


def _draw(
        images: np.ndarray, start: np.ndarray, end: np.ndarray, colour: np.ndarray,
        width: float) -> None:
    """Blend a line for each picture; its opacity falls off with the distance."""
    pixel = np.stack(np.meshgrid(np.arange(SIZE), np.arange(SIZE)), axis=-1, dtype=np.float32)
    along = (end - start).astype(np.float32)
    length = np.maximum(np.sum(along ** 2, axis=-1), 1e-6)[:, None, None]
    offset = pixel - start[:, None, None].astype(np.float32)
    part = np.clip(np.einsum('nijk,nk->nij', offset, along) / length, 0, 1)
    distance = np.sum((offset - part[..., None] * along[:, None, None]) ** 2, axis=-1)
    opacity = 0.9 * np.exp(-distance / (2 * width ** 2))[:, None]
    images += opacity * (colour[:, :, None, None] - images)


class ToyNetwork(nn.Module):
    """Pictures `(N, 3, 32, 32)` to logits `(N, 9, 64)` of columns and of rows."""

    def __init__(self, downsampling: Downsampling) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, WIDTH // 2, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTH // 2)
        self.conv2 = nn.Conv2d(WIDTH // 2, WIDTH, 3, 2, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(WIDTH)
        self.blocks = chain(BasicBlock, WIDTH, WIDTH, 2)
        self.final_layer = nn.Conv2d(WIDTH, JOINTS, 1)
        cells = (SIZE // 4) ** 2
        self.mlp_head_x, self.mlp_head_y = (nn.Linear(cells, bins) for bins in BINS)
        replace_downsampling(self, downsampling)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute the logits."""
        x = functional.relu(self.bn1(self.conv1(image)))
        x = self.blocks(functional.relu(self.bn2(self.conv2(x))))
        flat = self.final_layer(x).flatten(2)
        return self.mlp_head_x(flat), self.mlp_head_y(flat)


def train(
        downsampling: Downsampling, seed: int, data: Figures, steps: int = 1500,
        batch: int = 64) -> ToyNetwork:
    """Train a network of `downsampling`; below 1500 steps differences between them scatter."""
    torch.manual_seed(seed)
    network = ToyNetwork(downsampling)
    optimiser = torch.optim.Adam(network.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, 2e-3, total_steps=steps, pct_start=0.1)
    visible = torch.ones(batch, JOINTS)
    order = torch.cat([torch.randperm(len(data.images))
                       for _ in range(math.ceil(steps * batch / len(data.images)))])
    for rows in order[:steps * batch].split(batch):
        targets = smoothed_targets(data.joints[rows], visible, BINS, SPLIT_RATIO)
        loss = simcc_loss(*network(data.images[rows]), targets)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return network.eval()


def judge(network: ToyNetwork, data: Figures) -> Score:
    """Measure a network on figures that it has not seen."""
    with torch.no_grad():
        outputs = dict(zip(_OUTPUTS, map(torch.Tensor.numpy, network(data.images))))
    return _score(outputs, data)


def judge_int8(network: ToyNetwork, calibration: Figures, data: Figures) -> Score:
    """Measure it in int8, as `hmr quantize` makes it: gates stay in float (check 12)."""
    image = TensorSpec('image', (-1, 3, SIZE, SIZE), 'float32')
    outputs = [TensorSpec(name, (-1, JOINTS, bins), 'float32')
               for name, bins in zip(_OUTPUTS, BINS)]
    with tempfile.TemporaryDirectory() as folder:
        path = write_onnx(deployable(network), [image], outputs, Path(folder) / 'toy.onnx')
        model, target = float_network(path.read_bytes(), path), TARGETS['both']
    feeds = [{'image': images.numpy()} for images in calibration.images.split(_CALIBRATED)]
    layers = [name for name in quantizable(model, target) if 'mgaf' not in name]
    run = runner(quantized(model, target, calibrate(model, target, feeds), layers), path, 1)
    return _score(run({'image': data.images.numpy()}), data)


def _score(outputs: Mapping[str, np.ndarray], data: Figures) -> Score:
    points, _ = decode(probabilities(outputs), SPLIT_RATIO)
    error = np.linalg.norm(points - data.joints.numpy(), axis=-1)
    return Score(100 * float(np.mean(error <= 1)), float(error.mean()))


def compare(
        kinds: dict[str, Downsampling], seeds: tuple[int, ...], steps: int = 1500,
        pictures: int = 16_384, held_out: int = 2_048) -> dict[str, list[Score]]:
    """Train every kind of downsampling from every seed on the same figures; scores by name."""
    found: dict[str, list[Score]] = {name: [] for name in kinds}
    for seed in seeds:
        data, test = figures(pictures, seed), figures(held_out, seed + 1_000_000)
        for name, kind in kinds.items():
            found[name].append(judge(train(kind, seed, data, steps), test))
    return found
