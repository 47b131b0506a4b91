# SPDX-License-Identifier: Apache-2.0
"""The Lightning module of the person detector."""

from __future__ import annotations

from typing import Any

import lightning
import torch

from hmr_ros.networks.mgil.detector import Detector
from hmr_ros.training.mgil.detector.config import DetectorConfig
from hmr_ros.training.mgil.detector.losses import detector_loss
from hmr_ros.training.mgil.detector.targets import detector_targets

_RISE = 0.1


class DetectorModule(lightning.LightningModule):
    """Trains `network` on batches of `SceneWindows`."""

    def __init__(self, config: DetectorConfig, network: Detector) -> None:
        super().__init__()
        self.config, self.network = config, network

    def training_step(self, batch: dict[str, torch.Tensor], index: int) -> torch.Tensor:
        """Loss of boxes and objectness."""
        image = (batch['images'].float() / 255).contiguous(memory_format=torch.channels_last)
        targets = detector_targets(
            batch['boxes'], batch['ignored'], batch['rows'],
            (len(image), image.shape[2], image.shape[3]))
        loss = detector_loss(self.network(image), targets)
        self.log_dict({'boxes': loss.boxes, 'objectness': loss.objectness}, prog_bar=True)
        return loss.total

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW, which leaves norms and biases alone, and one cycle."""
        config = self.config
        kernels = [p for p in self.network.parameters() if p.ndim > 1]
        others = [p for p in self.network.parameters() if p.ndim <= 1]
        adam = torch.optim.AdamW(
            [{'params': kernels, 'weight_decay': config.weight_decay},
             {'params': others, 'weight_decay': 0.0}], config.learning_rate)
        # Two steps at least, for the rise needs one that is not the fall's.
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            adam, config.learning_rate, max(2, config.steps), pct_start=_RISE)
        return {'optimizer': adam, 'lr_scheduler': {'scheduler': schedule, 'interval': 'step'}}
