# SPDX-License-Identifier: Apache-2.0
"""The Lightning module of the digitizer, one phase at a time (sheet, section 4)."""

from __future__ import annotations

from collections.abc import Sequence
import math
from typing import Any

import lightning
import torch
from torch import nn
from torch.nn import functional

from hmr_ros.networks.digitizer_2k2k import Digitizer
from hmr_ros.networks.digitizer_2k2k.depth import emptied
from hmr_ros.networks.digitizer_2k2k.normals import NormalNet
from hmr_ros.perception.digitizer.alignment import align, Alignment
from hmr_ros.perception.digitizer.frame import LOW
from hmr_ros.perception.digitizer.joints import Joints
from hmr_ros.perception.digitizer.patches import blend, cut_patches
from hmr_ros.training.digitizer_2k2k.config import DigitizerConfig, PHASES
from hmr_ros.training.digitizer_2k2k.cutting import cut, enlarged
from hmr_ros.training.digitizer_2k2k.guesses import small_depth, spoiled_depth, spoiled_normals
from hmr_ros.training.digitizer_2k2k.losses import (
    depth_errors, depth_terms, normal_error, normal_loss, Truth)
from hmr_ros.training.digitizer_2k2k.torch_networks import TorchNetworks

_RISE = 0.1
_BETAS = (0.9, 0.99)
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


def read(head: nn.Module, features: torch.Tensor) -> torch.Tensor:
    """Apply a last layer in float32: half precision has steps of millimetres (sheet, 9)."""
    with torch.autocast(features.device.type, enabled=False):
        return head(features.float())


def normals_of(network: NormalNet, image: torch.Tensor) -> torch.Tensor:
    """
    Normals `(N, 6, H, W)` as training judges them, without the ReLU behind them.

    What is true often is the end of the range, and what lies beyond it would have no gradient: the
    same holds for depths and their ReLU6.
    """
    return read(network.head, network.features(image))


def made_small(image: torch.Tensor) -> torch.Tensor:
    """Images `(N, C, S, S)` an eighth the size, as `frame.low_resolution` does."""
    return functional.interpolate(image, scale_factor=1 / LOW, mode='bilinear')


def alignments_of(batch: Batch) -> list[Alignment]:
    """Place the parts of each image of a batch of `WholeBatches`."""
    side = batch['image'].shape[-1]
    return [align(Joints(points, found), side) for points, found in zip(
        batch['joints'].cpu().numpy(), batch['found'].cpu().numpy())]


def window_start(mask: torch.Tensor, width: int) -> int:
    """First of `width` columns, a multiple of LOW, around the body of a mask `(S, S)`."""
    columns = mask.any(0).nonzero()
    middle = int(columns.float().mean()) if len(columns) else len(mask) // 2
    return min(max(middle - width // 2, 0), mask.shape[1] - width) // LOW * LOW


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
        phase = self.config.phase
        if phase == 'low':
            return self._low(batch['image'], batch['depth'], batch['unit_m'])[0]
        if phase == 'high':
            return self._high(batch, alignments_of(batch))
        image = made_small(batch['image'])
        if phase == 'phase1':
            terms, normals = self._low(image, small_depth(batch['depth']), batch['unit_m'])
        else:
            with torch.no_grad():
                terms, normals = {}, self.network.low_normals(image)
        return terms | self._parts(batch, normals.detach().float(), alignments_of(batch))

    def _low(
            self, image: torch.Tensor, depth: torch.Tensor,
            unit_m: torch.Tensor) -> tuple[Terms, torch.Tensor]:
        """Terms, and normals, of small images `(N, 3, s, s)` that show D `(N, 2, s, s)`."""
        image = image.contiguous(memory_format=torch.channels_last)
        normals = normals_of(self.network.low_normals, image)
        seen, low = normals.clamp(min=0), self.network.low_depth
        found = read(low.head, low.features(image, seen))
        with torch.autocast(image.device.type, enabled=False):
            truth = Truth.of(depth)
            self.log('low_normal_l2', normal_error(normals, truth.normals))
            return {'low_normals': normal_loss(
                normals, truth.normals, len(image), self.config.body_weight),
                    **self._depth(found, truth, unit_m)}, seen

    def _parts(
            self, batch: Batch, low_normals: torch.Tensor,
            alignments: Sequence[Alignment]) -> Terms:
        """Terms of the parts that were placed; `low_normals` (N, 6, s, s) have no gradient."""
        images = batch['image']
        with torch.autocast(images.device.type, enabled=False):
            truth = Truth.of(batch['depth'])
            patches = cut(torch.cat(
                [images, enlarged(low_normals[:, :3]), truth.normals], 1), alignments)
        terms, errors = {}, []
        for name, patch in patches.items():
            seen = patch[:, :6].contiguous(memory_format=torch.channels_last)
            found = normals_of(self.network.parts[name], seen)
            with torch.autocast(images.device.type, enabled=False):
                terms[name] = normal_loss(
                    found, patch[:, 6:], len(images), self.config.body_weight)
                errors.append(normal_error(found, patch[:, 6:]))
        self.log('part_normal_l2', torch.stack(errors).mean(), prog_bar=True)
        return terms

    def _high(self, batch: Batch, alignments: Sequence[Alignment]) -> Terms:
        """Terms of the refined depth."""
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            truth = Truth.of(batch['depth'])
            pair, normals = self._unrefined(batch, truth, alignments)
            truth, pair, normals = self._windows(truth, pair, normals)
        high = self.network.high_depth
        found = read(high.head, high.features(
            *(x.contiguous(memory_format=torch.channels_last) for x in (pair, normals))))
        with torch.autocast(self.device.type, enabled=False):
            return self._depth(found, truth, batch['unit_m'])

    def _unrefined(
            self, batch: Batch, truth: Truth,
            alignments: Sequence[Alignment]) -> tuple[torch.Tensor, torch.Tensor]:
        """D `(N, 2, s, s)` and normals `(N, 6, S, S)` that are refined; see DigitizerConfig."""
        images, config = batch['image'], self.config
        if (config.depth_from, config.normals_from) == ('truth', 'truth'):
            return spoiled_depth(truth.depth), spoiled_normals(truth, alignments)
        low_normals, low = self.network.low(made_small(images))
        pair = emptied(low) if config.depth_from == 'network' else spoiled_depth(truth.depth)
        if config.normals_from == 'truth':
            return pair, spoiled_normals(truth, alignments)
        networks = TorchNetworks(self.network)
        return pair, torch.stack([
            torch.from_numpy(blend(networks.parts(cut_patches(image, seen, alignment)), alignment))
            for image, seen, alignment in zip(
                images.cpu().numpy(), low_normals.cpu().numpy(), alignments)]).to(images)

    def _windows(
            self, truth: Truth, pair: torch.Tensor,
            normals: torch.Tensor) -> tuple[Truth, torch.Tensor, torch.Tensor]:
        """Take the columns around each body, see `window` of DigitizerConfig."""
        width = self.config.window or truth.mask.shape[-1]
        starts = [window_start(mask, width) for mask in truth.mask[:, 0]]

        def columns(maps: torch.Tensor, step: int) -> torch.Tensor:
            return torch.stack([x[..., start // step:(start + width) // step]
                                for x, start in zip(maps, starts)])
        # Encoded before they are cut: slopes at an edge need the pixel beyond.
        return (Truth(columns(truth.depth, 1), columns(truth.mask, 1), columns(truth.normals, 1)),
                columns(pair, LOW), columns(normals, 1))

    def _depth(self, found: torch.Tensor, truth: Truth, unit_m: torch.Tensor) -> Terms:
        """Terms of what a depth network's head gave `(N, 3, H, W)`."""
        depth, mask = found[:, :2], found[:, 2:]
        self.log_dict(depth_errors(depth, mask, truth, unit_m), prog_bar=True)
        return depth_terms(
            depth, mask, truth, self.config.body_weight, self.config.background_weight)

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
