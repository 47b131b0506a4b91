# SPDX-License-Identifier: Apache-2.0
"""The Lightning module of the pose networks."""

from __future__ import annotations

from typing import Any

import lightning
import torch

from hmr_ros.networks.mgil import PoseNetwork
from hmr_ros.training.mgil.config import PoseConfig
from hmr_ros.training.mgil.losses import simcc_loss
from hmr_ros.training.mgil.targets import gaussian_targets, smoothed_targets, Targets
from hmr_ros.training.mgil.weights import PoseFacts

_FACTS = PoseFacts()
#: 170 and 200 of 210 epochs.
_DROPS = (17 / 21, 20 / 21)
_RISE = 0.1


def normalised(images: torch.Tensor) -> torch.Tensor:
    """Turn crops `(N, 3, S, S)` uint8 into what the networks read."""
    mean, std = (255 * images.new_tensor(values, dtype=torch.float32)[:, None, None]
                 for values in (_FACTS.mean, _FACTS.std))
    return (images.float() - mean) / std


class PoseModule(lightning.LightningModule):
    """Trains `network` on batches of `PoseCrops`."""

    def __init__(self, config: PoseConfig, network: PoseNetwork) -> None:
        super().__init__()
        self.config, self.network = config, network

    def training_step(self, batch: dict[str, torch.Tensor], index: int) -> torch.Tensor:
        """Loss of both vectors."""
        image = normalised(batch['images'])
        found = self.network(image.contiguous(memory_format=torch.channels_last))
        loss = simcc_loss(*found, self.targets(batch), self.config.loss)
        self.log('loss', loss, prog_bar=True)
        return loss

    def targets(self, batch: dict[str, torch.Tensor]) -> Targets:
        """What the vectors of a batch should be."""
        config, variant = self.config, self.network.variant
        known = (batch['points'], batch['labelled'], variant.bins, variant.split_ratio)
        if config.labels == 'gaussian':
            return gaussian_targets(*known, config.sigma)
        return smoothed_targets(*known, config.smoothing)

    def configure_optimizers(self) -> dict[str, Any]:
        """Adam without weight decay."""
        config = self.config
        # Fused: one pass over the weights, a tenth of a step at small batches on a processor.
        adam = torch.optim.Adam(self.network.parameters(), config.learning_rate, fused=True)
        if config.schedule == 'one_cycle':
            # Two steps at least, for the rise needs one that is not the fall's.
            schedule: torch.optim.lr_scheduler.LRScheduler = torch.optim.lr_scheduler.OneCycleLR(
                adam, config.learning_rate, max(2, config.steps), pct_start=_RISE)
        else:
            schedule = torch.optim.lr_scheduler.MultiStepLR(
                adam, [round(share * config.steps) for share in _DROPS])
        return {'optimizer': adam, 'lr_scheduler': {'scheduler': schedule, 'interval': 'step'}}
