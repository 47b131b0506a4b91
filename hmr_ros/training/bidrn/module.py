# SPDX-License-Identifier: Apache-2.0
"""The Lightning module of the whole-body network."""

from __future__ import annotations

from typing import Any

import lightning
import torch

from hmr_ros.body.whole_body import WholeBodyModel
from hmr_ros.networks.bidrn import WholeBody
from hmr_ros.networks.bidrn.network import WholePerson
from hmr_ros.training.bidrn.config import WholeBodyConfig
from hmr_ros.training.bidrn.losses import whole_body_losses
from hmr_ros.training.bidrn.smplx_layer import WholeBodyJoints
from hmr_ros.training.bidrn.targets import Targets

#: 8 and 12 of 14 epochs.
_DROPS = (8 / 14, 12 / 14)
_RISE = 0.1


def shown(images: torch.Tensor) -> torch.Tensor:
    """Turn crops `(N, 3, H, W)` uint8 into what the network reads."""
    return (images.float() / 255).contiguous(memory_format=torch.channels_last)


class WholeBodyModule(lightning.LightningModule):
    """Trains `network` on batches of whole-body people, see `Targets.of`."""

    def __init__(
            self, config: WholeBodyConfig, network: WholeBody, body: WholeBodyModel) -> None:
        super().__init__()
        self.config, self.network = config, network
        self.layer = WholeBodyJoints(body)

    def training_step(self, batch: dict[str, torch.Tensor], index: int) -> torch.Tensor:
        """Sum of all terms."""
        found = self.network(shown(batch['image']))
        # Rotations and projections need float32, whatever the network computes in.
        with torch.autocast(self.device.type, enabled=False):
            plan = self.network.variant.sizes
            losses = whole_body_losses(
                WholePerson(*(value.float() for value in found)), Targets.of(batch, plan),
                self.layer, plan)
            total = torch.stack(list(losses.values())).sum()
        self.log_dict({name: value.detach() for name, value in losses.items()})
        self.log('loss', total.detach(), prog_bar=True)
        return total

    def configure_optimizers(self) -> dict[str, Any]:
        """Adam without weight decay."""
        config = self.config
        # Fused: one pass over the weights, a tenth of a step at small batches on a processor.
        adam = torch.optim.Adam(self.network.parameters(), config.learning_rate, fused=True)
        return {'optimizer': adam, 'lr_scheduler': {
            'scheduler': _schedule(adam, config), 'interval': 'step'}}


def _schedule(
        adam: torch.optim.Optimizer, config: WholeBodyConfig
        ) -> torch.optim.lr_scheduler.LRScheduler:
    if config.schedule == 'one_cycle':
        # Two steps at least, for the rise needs one that is not the fall's.
        return torch.optim.lr_scheduler.OneCycleLR(
            adam, config.learning_rate, max(2, config.steps), pct_start=_RISE)
    return torch.optim.lr_scheduler.MultiStepLR(
        adam, [round(share * config.steps) for share in _DROPS])
