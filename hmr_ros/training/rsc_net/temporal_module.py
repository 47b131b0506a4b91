# SPDX-License-Identifier: Apache-2.0
"""The Lightning module of the temporal networks: generator and motion discriminator (sheet 3.6)."""

from __future__ import annotations

import lightning
import torch

from hmr_ros.body.model import BodyModel
from hmr_ros.networks.rsc_net import BodyFilter, RscTemporal
from hmr_ros.networks.rsc_net.discriminator import MotionDiscriminator
from hmr_ros.training.rsc_net.temporal_config import TemporalConfig
from hmr_ros.training.rsc_net.temporal_losses import (
    body_axis_angles, fake_error, projection_error, real_error, TemporalLosses)
from hmr_ros.training.rsc_net.tracks import Tracks

#: of the discriminator: learning rate as a share of the generator's, and weight decay.
DISCRIMINATOR_RATE, DISCRIMINATOR_DECAY = 0.2, 1e-4
_LONGEST_GRADIENT = 1.0


def build_temporal(config: TemporalConfig, tracks: Tracks) -> BodyFilter | RscTemporal:
    """Build the network of a training; one that starts from a mean body gets that of `tracks`."""
    features = tracks.feature.shape[-1]
    if config.network == 'body_filter':
        return BodyFilter(features, config.hidden)
    network = RscTemporal(features, config.hidden)
    pose = torch.from_numpy(tracks.rotmats[..., :2].mean((0, 1))).flatten()
    network.regressor.init_pose.copy_(pose)
    network.regressor.init_betas.copy_(torch.from_numpy(tracks.shape.mean(0)))
    return network


class TemporalModule(lightning.LightningModule):
    """Trains `network` on batches of `Windows`; the two optimisers step by hand."""

    def __init__(
            self, config: TemporalConfig, network: BodyFilter | RscTemporal,
            body: BodyModel) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.config, self.network = config, network
        self.losses = TemporalLosses(body)
        self.discriminator = MotionDiscriminator() if config.adversarial > 0 else None

    def training_step(self, batch: dict[str, torch.Tensor], index: int) -> None:
        """One step of the generator and, where there is one, one of the discriminator."""
        generator, *discriminator = zip(
            _listed(self.optimizers()), _listed(self.lr_schedulers()))
        terms, fake, real = self._terms(batch)
        weighted = {name: getattr(self.config, name) * value for name, value in terms.items()}
        total = torch.stack(list(weighted.values())).sum()
        self._step(*generator, total)
        self.log_dict({**terms, 'loss': total})
        for pair in discriminator:
            error = 0.5 * (real_error(self.discriminator(real)) +
                           fake_error(self.discriminator(fake.detach())))
            self._step(*pair, error)
            self.log('discriminator', error)

    def _terms(
            self, batch: dict[str, torch.Tensor]
            ) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
        """Compute the generator's terms and what the discriminator sees: predicted and true."""
        pose6d, betas, cam = self._run(batch)
        terms, found, true = self.losses(pose6d, betas, batch)
        if cam is not None:
            terms['joints2d'] = projection_error(found.joints, cam, batch['joints2d'])
        fake, real = body_axis_angles(found.rotmats), body_axis_angles(true.rotmats)
        if self.discriminator is not None:
            terms['adversarial'] = real_error(self.discriminator(fake))
        return terms, fake, real

    def _run(
            self, batch: dict[str, torch.Tensor]
            ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        if isinstance(self.network, BodyFilter):
            body = self.network(batch['feature'], batch['pose6d'], batch['betas'])
            return body.pose6d, body.betas, None
        body = self.network(batch['feature'])
        return body.pose6d, body.betas, body.cam

    def _step(
            self, optimizer: torch.optim.Optimizer,
            schedule: torch.optim.lr_scheduler.LRScheduler, loss: torch.Tensor) -> None:
        optimizer.zero_grad()
        self.manual_backward(loss)
        self.clip_gradients(optimizer, _LONGEST_GRADIENT, 'norm')
        optimizer.step()
        schedule.step()

    def configure_optimizers(self) -> tuple[list, list]:
        """Adam for both, each with one cycle of the learning rate."""
        rate, steps = self.config.learning_rate, self.config.steps + 1
        optimizers = [torch.optim.Adam(self.network.parameters(), rate)]
        if self.discriminator is not None:
            optimizers.append(torch.optim.Adam(
                self.discriminator.parameters(), rate * DISCRIMINATOR_RATE,
                weight_decay=DISCRIMINATOR_DECAY))
        schedules = [torch.optim.lr_scheduler.OneCycleLR(
            optimizer, optimizer.param_groups[0]['lr'], total_steps=steps, pct_start=0.1)
            for optimizer in optimizers]
        return optimizers, schedules


def _listed(one_or_more: object) -> list:
    """Lightning gives a single optimiser or schedule without a list around it."""
    return one_or_more if isinstance(one_or_more, list) else [one_or_more]
