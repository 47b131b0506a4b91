# SPDX-License-Identifier: Apache-2.0
"""The Lightning module: network, heat-map decoder, optimiser and schedule."""

from __future__ import annotations

import math

import lightning
import torch
from torch import nn
from torch.nn import functional

from hmr_ros.networks.keypoint_guided import KeypointGuided
from hmr_ros.networks.keypoint_guided.heads import TOKEN_MAP
from hmr_ros.networks.keypoint_guided.mgfenet import FEATURE_CHANNELS
from hmr_ros.training.keypoint_guided.config import StageConfig
from hmr_ros.training.keypoint_guided.losses import (
    DEPTH_OFFSET, heatmap_targets, HEATMAP_SCALE, HEATMAP_SIGMA, HEATMAP_SIZE, loss_terms,
    map_error, token_map_targets, TOKEN_SCALE, TOKEN_SIGMA)

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
JOINTS = 29
#: share of the learning rate, by prefix: the heads are unnormalised products, and the token
#: convolution sums 47,040 inputs, so that steps of the backbone's size are mostly noise to them.
RATES = {
    'network.backbone': 1.0, 'decoder': 1.0, 'network.tokens.conv': 0.08, 'network.tokens': 0.25,
    'network.attention': 0.2, 'network.heads': 0.2, 'network.trunk': 0.05}
#: median of s = f / (Z b) over the synthetic cameras, where the camera output starts.
MEDIAN_CAMERA_SCALE = 0.5


def start_as_centroids(network: KeypointGuided) -> None:
    """
    Let the heads start by reading u and v as centroids and d as the mean of the keypoint maps.

    Token channels 0 to 2 begin as what `token_map_targets` puts into a map, after ScaleNorm, and
    the heads begin by reading them; the attention begins small. Everything stays free to learn.
    """
    cells = torch.arange(TOKEN_MAP, dtype=torch.float32)
    place = (cells + 0.5) / TOKEN_MAP - 0.5
    area, cell_count = 2 * math.pi * TOKEN_SIGMA ** 2, TOKEN_MAP ** 2
    rms = math.sqrt(area / 2 / cell_count - (area / cell_count) ** 2)
    linear, coordinates = network.tokens.linear.weight, network.heads.coordinates.weight
    with torch.no_grad():
        linear[0] = place.repeat(TOKEN_MAP) * rms / area
        linear[1] = place.repeat_interleave(TOKEN_MAP) * rms / area
        linear[2] = rms / (cell_count * DEPTH_OFFSET)
        coordinates[:, :3] = torch.eye(3)
        network.attention.out.weight *= 0.1


class HeatmapDecoder(nn.Sequential):
    """Narrow decoder from f to heat-maps of the 29 joints: a dense signal, dropped afterwards."""

    def __init__(self, width: int = 96) -> None:
        layers: list[nn.Module] = [nn.Conv2d(FEATURE_CHANNELS, width, 1, bias=False)]
        for _ in range(3):
            layers += [
                nn.BatchNorm2d(width), nn.ReLU(),
                nn.ConvTranspose2d(width, width, 4, 2, 1, bias=False)]
        super().__init__(*layers, nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, JOINTS, 1))


class KeypointGuidedModule(lightning.LightningModule):
    """Trains keypoint_guided on batches of `training_loader`."""

    def __init__(self, config: StageConfig) -> None:
        super().__init__()
        torch.manual_seed(config.seed)
        self.config = config
        self.network = KeypointGuided().to(memory_format=torch.channels_last)
        self.network.trunk.init_camera[0] = MEDIAN_CAMERA_SCALE
        start_as_centroids(self.network)
        self.decoder = HeatmapDecoder()
        self.register_buffer('mean', 255 * torch.tensor(MEAN)[:, None, None])
        self.register_buffer('std', 255 * torch.tensor(STD)[:, None, None])
        self._freeze(config.frozen_blocks)

    def _freeze(self, blocks: int) -> None:
        """Stop the gradient; batch statistics go on adapting, to another crop size above all."""
        backbone = self.network.backbone
        for part in [backbone.stem, *backbone.blocks[:blocks]] if blocks else []:
            part.requires_grad_(False)

    def normalised(self, image: torch.Tensor) -> torch.Tensor:
        """Crops uint8 `(N, 3, S, S)` to network input."""
        return ((image.float() - self.mean) / self.std).contiguous(
            memory_format=torch.channels_last)

    def training_step(self, batch: dict[str, torch.Tensor], index: int) -> torch.Tensor:
        """Sum of the loss terms, each logged."""
        f = self.network.backbone(self.normalised(batch['image']))
        maps = self.network.tokens.maps(f)
        terms = loss_terms(self.network.read_out(f, maps), batch)
        targets = token_map_targets(batch['uvd'], TOKEN_MAP)
        terms['maps'] = TOKEN_SCALE * map_error(maps, targets, batch)
        if self.config.heatmap_weight > 0:
            heatmaps = functional.interpolate(
                self.decoder(f), size=(HEATMAP_SIZE, HEATMAP_SIZE), mode='area')
            scale = HEATMAP_SCALE * self.config.heatmap_weight
            targets = heatmap_targets(batch['uvd'][:, :JOINTS], HEATMAP_SIZE, HEATMAP_SIGMA)
            terms['heatmaps'] = scale * map_error(heatmaps, targets, batch)
        total = torch.stack(list(terms.values())).sum()
        self.log_dict(terms)
        self.log('loss', total, prog_bar=True)
        return total

    def configure_optimizers(self) -> dict[str, object]:
        """AdamW with one cycle; gains, biases and spectral filters do not decay."""
        config = self.config
        groups = [
            {'params': parameters, 'lr': config.learning_rate * scale, 'weight_decay': decay}
            for (scale, decay), parameters in self._groups().items()]
        optimizer = torch.optim.AdamW(groups)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, [group['lr'] for group in groups], total_steps=config.steps + 1,
            pct_start=0.08, div_factor=20, final_div_factor=50)
        return {'optimizer': optimizer, 'lr_scheduler': {'scheduler': schedule,
                                                         'interval': 'step'}}

    def _groups(self) -> dict[tuple[float, float], list[nn.Parameter]]:
        """Trainable parameters by share of the learning rate and by weight decay."""
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                part = max((p for p in RATES if name.startswith(p)), key=len)
                matrix = parameter.ndim > 1 and 'complex_weight' not in name
                decay = self.config.weight_decay if matrix else 0.0
                groups.setdefault((RATES[part], decay), []).append(parameter)
        return groups
