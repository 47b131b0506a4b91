# SPDX-License-Identifier: Apache-2.0
"""The Lightning module of the image network: one pass per resolution (sheet 2.1, 3)."""

from __future__ import annotations

import lightning
import torch
from torch import nn

from hmr_ros.body.model import BodyModel
from hmr_ros.networks.rsc_net import Body, ContrastiveHead, RscNet
from hmr_ros.training.kinematics import RestSkeleton
from hmr_ros.training.rsc_net.config import RscConfig
from hmr_ros.training.rsc_net.contrast import ProjectionQueue
from hmr_ros.training.rsc_net.losses import (
    basic_terms, CONTRAST_WEIGHT, decode, Decoded, pair_weight, SCALE, self_supervision,
    SELF_WEIGHT)
from hmr_ros.training.rsc_net.weights import RscFacts

_FACTS = RscFacts()


class RscModule(lightning.LightningModule):
    """
    Trains `network` on batches of `Resolutions`.

    The resolutions go through one after the other, highest first, so that batch norm sees each by
    itself; a mixed batch would be another model.
    """

    def __init__(self, config: RscConfig, network: RscNet, body: BodyModel) -> None:
        super().__init__()
        self.config, self.network = config, network
        self.rest = RestSkeleton(body)
        self.contrast = ContrastiveHead(network.features)
        self.queue = ProjectionQueue()
        network.backbone.alphas.requires_grad_(config.kind.own_rows)
        self.contrast.requires_grad_(config.kind.contrasted)
        self.register_buffer('mean', 255 * torch.tensor(_FACTS.mean)[:, None, None])
        self.register_buffer('std', 255 * torch.tensor(_FACTS.std)[:, None, None])

    def on_train_batch_start(self, batch: dict[str, torch.Tensor], index: int) -> None:
        """Let a row that enters training begin where the row before it has got to."""
        alphas = self.network.backbone.alphas
        if self.config.kind.own_rows:
            with torch.no_grad():
                for row in self.config.schedule.entering(self.global_step):
                    alphas[row].copy_(alphas[row - 1])

    def training_step(self, batch: dict[str, torch.Tensor], index: int) -> torch.Tensor:
        """Sum of the basic losses of all resolutions and of the pairs of them."""
        bodies, features = self._run(batch['images'])
        # Rotations and contrasts need float32, whatever the network computes in.
        with torch.autocast(self.device.type, enabled=False):
            return self._loss([decode(body) for body in bodies], features, batch)

    def _loss(
            self, found: list[Decoded], features: list[torch.Tensor],
            batch: dict[str, torch.Tensor]) -> torch.Tensor:
        rows = len(found)
        total = torch.zeros((), device=self.device)
        for row, decoded in enumerate(found):
            terms = basic_terms(decoded, self.rest, batch)
            basic = torch.stack(list(terms.values())).sum()
            total = total + (row + 1) / rows * basic
            self.log(f'basic_{row}', basic)
        pairs = self._pairs(found, features, batch['sample'])
        ramp = self.config.schedule.ramp(self.global_step)
        total = SCALE * (total + SELF_WEIGHT * ramp * pairs)
        self.log('loss', total, prog_bar=True)
        return total

    def _run(self, images: torch.Tensor) -> tuple[list[Body], list[torch.Tensor]]:
        """Predictions and features of each resolution, float32."""
        bodies, features = [], []
        for place, image in enumerate(images):
            row = torch.full((len(image),), place if self.config.kind.own_rows else 0)
            *body, feature = self.network((image.float() - self.mean) / self.std, row)
            bodies.append(Body(*body))
            features.append(feature)
        return bodies, features

    def _pairs(
            self, found: list[Decoded], features: list[torch.Tensor],
            samples: torch.Tensor) -> torch.Tensor:
        """Directional self-supervision and contrast of every pair, high to low."""
        total, kind = torch.zeros((), device=self.device), self.config.kind
        if not kind.supervised:
            return total
        projected = [self.contrast(feature) for feature in features] if kind.contrasted else []
        for projection in projected:
            self.queue.push(projection, samples)
        for high in range(len(found)):
            for low in range(high + 1, len(found)):
                term = self_supervision(found[high], found[low])
                if projected:
                    term = term + CONTRAST_WEIGHT * self.queue.loss(
                        projected[low], projected[high], samples)
                total = total + pair_weight(high, low, len(found)) * term
        self.log('pairs', total)
        return total

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam; alpha has a larger rate, for it has only 1 to start from."""
        alphas = list(self.network.backbone.alphas.parameters())
        known = {id(alpha) for alpha in alphas}
        rest: list[nn.Parameter] = [
            parameter for parameter in self.parameters() if id(parameter) not in known]
        rate = self.config.learning_rate
        return torch.optim.Adam([
            {'params': rest}, {'params': alphas, 'lr': rate * self.config.alpha_rate}], lr=rate)
