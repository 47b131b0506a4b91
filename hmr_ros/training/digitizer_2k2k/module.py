# SPDX-License-Identifier: Apache-2.0
"""The Lightning module of the digitizer, one phase at a time (sheet, section 4)."""

from __future__ import annotations

import math
from typing import Any

import lightning
import torch
from torch import nn
from torch.nn import functional

from hmr_ros.networks.digitizer_2k2k import Digitizer
from hmr_ros.networks.digitizer_2k2k.normals import NormalNet
from hmr_ros.perception.digitizer.depth import FRONT_EMPTY
from hmr_ros.perception.digitizer.frame import LOW
from hmr_ros.training.digitizer_2k2k.config import DigitizerConfig, PHASES
from hmr_ros.training.digitizer_2k2k.losses import (
    depth_errors, depth_terms, normal_error, normal_loss, Truth)

_RISE = 0.1
_BETAS = (0.9, 0.99)
#: share of the gradient of what lies outside the range of an output.
_LEAK = 0.05
#: which of LOW pixels a small map of true depth takes (sheet, 3.2).
OFFSET = 3
#: where heads begin: depths in the middle of bodies, normals in the middle of their range.
_NEW_DEPTH, _NEW_NORMAL, _NEW_SCALE = (2.0, 2.0, 0.0), 0.3, 0.1

Batch = dict[str, torch.Tensor]
Terms = dict[str, torch.Tensor]


def soften_heads(network: Digitizer) -> None:
    """
    Let all outputs begin near bodies, and nearly the same everywhere.

    The published start draws them so that half of all depths lie below 0, where ReLU6 has no
    gradient.
    """
    with torch.no_grad():
        for part in (network.low_normals, *network.parts.values()):
            part.head.weight *= _NEW_SCALE
            part.head.bias.fill_(_NEW_NORMAL)
        for head in (network.low_depth.head, network.high_depth.head):
            head.weight *= _NEW_SCALE
            head.bias.copy_(head.bias.new_tensor(_NEW_DEPTH))


def leaking(values: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """
    Keep values in a range but for a small share of what lies outside.

    For training alone, in place of ReLU and ReLU6: what is true often lies at an end of the range,
    and a pixel beyond it would have no gradient.
    """
    inside = values.clamp(low, high)
    return inside + _LEAK * (values - inside)


def read(head: nn.Module, features: torch.Tensor) -> torch.Tensor:
    """Apply a last layer in float32: half precision has steps of millimetres (sheet, 9)."""
    with torch.autocast(features.device.type, enabled=False):
        return head(features.float())


def normals_of(network: NormalNet, image: torch.Tensor) -> torch.Tensor:
    """Normals `(N, 6, H, W)` as training judges them, see `leaking`."""
    return leaking(read(network.head, network.features(image)), 0, math.inf)


def made_small(image: torch.Tensor) -> torch.Tensor:
    """Images `(N, C, S, S)` an eighth the size, as `frame.low_resolution` does."""
    return functional.interpolate(image, scale_factor=1 / LOW, mode='bilinear')


class DigitizerModule(lightning.LightningModule):
    """Trains what the phase says of `network` on batches of `data`."""

    def __init__(self, config: DigitizerConfig, network: Digitizer) -> None:
        super().__init__()
        self.config, self.network = config, network
        network.requires_grad_(False)
        for name in PHASES[config.phase]:
            getattr(network, name).requires_grad_(True)
        self.train()

    def train(self, mode: bool = True) -> DigitizerModule:
        """Switch, but leave in evaluation mode what is not trained: its statistics are settled."""
        super().train(mode)
        for name, part in self.network.named_children():
            part.train(mode and name in PHASES[self.config.phase])
        return self

    def on_train_batch_start(self, batch: Batch, index: int) -> None:
        """Draw the same errors for a step whether a training was interrupted or not."""
        torch.manual_seed(1000 * self.config.seed + self.global_step)

    def training_step(self, batch: Batch, index: int) -> torch.Tensor:
        """Sum of all terms."""
        terms = self._terms(batch)
        total = torch.stack(list(terms.values())).sum()
        self.log_dict({name: value.detach() for name, value in terms.items()})
        self.log('loss', total.detach(), prog_bar=True)
        return total

    def _terms(self, batch: Batch) -> Terms:
        return self._low(batch['image'], batch['depth'], batch['unit_m'])

    def _low(self, image: torch.Tensor, depth: torch.Tensor, unit_m: torch.Tensor) -> Terms:
        """Terms of the low networks of small images `(N, 3, s, s)` and D `(N, 2, s, s)`."""
        image = image.contiguous(memory_format=torch.channels_last)
        normals = normals_of(self.network.low_normals, image)
        low = self.network.low_depth
        found = read(low.head, low.features(image, normals.clamp(min=0)))
        with torch.autocast(image.device.type, enabled=False):
            truth = Truth.of(depth)
            self.log('normal_l2', normal_error(normals, truth.normals))
            return {'low_normals': normal_loss(normals, truth.normals, len(image)),
                    **self._depth(found, truth, unit_m)}

    def _depth(self, found: torch.Tensor, truth: Truth, unit_m: torch.Tensor) -> Terms:
        """Terms of what a depth network's head gave `(N, 3, H, W)`."""
        depth, mask = leaking(found[:, :2], 0, FRONT_EMPTY), found[:, 2:]
        self.log_dict(depth_errors(depth, mask, truth, unit_m), prog_bar=True)
        return depth_terms(depth, mask, truth, self.config.body_weight)

    def configure_gradient_clipping(
            self, optimizer: torch.optim.Optimizer, gradient_clip_val: float | None = None,
            gradient_clip_algorithm: str | None = None) -> None:
        """Clip here, for the trainer refuses to with a fused optimiser."""
        if gradient_clip_val:
            nn.utils.clip_grad_norm_(
                [value for value in self.network.parameters() if value.grad is not None],
                gradient_clip_val)

    def configure_optimizers(self) -> dict[str, Any]:
        """Adam without weight decay."""
        config = self.config
        trained = [value for value in self.network.parameters() if value.requires_grad]
        adam = torch.optim.Adam(trained, config.learning_rate, _BETAS, fused=True)
        return {'optimizer': adam, 'lr_scheduler': {
            'scheduler': _schedule(adam, config), 'interval': 'step'}}


def _schedule(
        adam: torch.optim.Optimizer, config: DigitizerConfig
        ) -> torch.optim.lr_scheduler.LRScheduler:
    if config.schedule == 'one_cycle':
        # Two steps at least, for the rise needs one that is not the fall's.
        return torch.optim.lr_scheduler.OneCycleLR(
            adam, config.learning_rate, max(2, config.steps), pct_start=_RISE,
            cycle_momentum=False)
    return torch.optim.lr_scheduler.LambdaLR(
        adam, lambda step: restarted(step, config.cycle))


def restarted(step: int, cycle: int) -> float:
    """Share of the learning rate at a step: a cosine down each `cycle`, each from half as high."""
    turn, place = divmod(step, cycle)
    return 0.5 ** turn * (1 + math.cos(math.pi * place / cycle)) / 2
