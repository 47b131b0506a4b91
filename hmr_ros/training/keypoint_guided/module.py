# SPDX-License-Identifier: Apache-2.0
"""The Lightning module: network, heat-map decoder, optimiser and schedule."""

from __future__ import annotations

import math

import lightning
import torch
from torch import nn
from torch.nn import functional

from hmr_ros.body import load_body
from hmr_ros.networks.keypoint_guided import build_network, KeypointGuided, Variant
from hmr_ros.networks.keypoint_guided.compact import CompactKeypointGuided
from hmr_ros.networks.keypoint_guided.heads import TOKEN_MAP
from hmr_ros.networks.keypoint_guided.mgfenet import BLOCKS, MGFENet
from hmr_ros.networks.keypoint_guided.prediction import Prediction
from hmr_ros.training.keypoint_guided.compact_losses import compact_terms
from hmr_ros.training.keypoint_guided.config import StageConfig
from hmr_ros.training.keypoint_guided.losses import (
    DEPTH_OFFSET, heatmap_targets, HEATMAP_SCALE, HEATMAP_SIGMA, HEATMAP_SIZE, loss_terms,
    map_error, token_map_error, TOKEN_SCALE, TOKEN_SIGMA)
from hmr_ros.training.keypoint_guided.pretraining import PretrainingDecoder, pretraining_loss
from hmr_ros.training.keypoint_guided.sheet_losses import SheetLosses
from hmr_ros.training.keypoint_guided.weights import WeightsFacts

OWN = WeightsFacts()
JOINTS = 29
#: the last block at a sixteenth of the crop's resolution, where maps are read early.
EARLY_BLOCK = 12
#: share of the learning rate, by prefix: the heads are unnormalised products, and the token
#: convolution sums 47,040 inputs, so that steps of the backbone's size are mostly noise to them.
RATES = {
    'network.backbone': 1.0, 'decoder': 1.0, 'early': 1.0, 'pretraining': 1.0,
    'network.tokens.conv': 0.08, 'network.tokens': 0.25, 'network.attention': 0.2,
    'network.heads': 0.2, 'network.trunk': 0.05, 'network.maps': 1.0, 'network.reader': 0.5}
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

    def __init__(self, channels: int, width: int = 96) -> None:
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 1, bias=False)]
        for _ in range(3):
            layers += [
                nn.BatchNorm2d(width), nn.ReLU(),
                nn.ConvTranspose2d(width, width, 4, 2, 1, bias=False)]
        super().__init__(*layers, nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, JOINTS, 1))


class EarlyMaps(nn.Module):
    """
    Keypoint maps `(N, K, 16, 16)` read from a block in the middle of the backbone.

    A short way for the gradient to the leading blocks; dropped after training.
    """

    def __init__(self, backbone: MGFENet, keypoints: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(BLOCKS[EARLY_BLOCK].out, keypoints, 1)
        self._features = torch.empty(0)
        backbone.blocks[EARLY_BLOCK].register_forward_hook(self._keep)

    def _keep(self, block: nn.Module, inputs: object, features: torch.Tensor) -> None:
        self._features = features

    def forward(self) -> torch.Tensor:
        """Maps of the crops that went through the backbone last."""
        return self.conv(self._features)


class KeypointGuidedModule(lightning.LightningModule):
    """Trains keypoint_guided on batches of `training_loader`."""

    def __init__(self, config: StageConfig) -> None:
        super().__init__()
        torch.manual_seed(config.seed)
        self.config = config
        variant = Variant(config.backbone, config.tokens)
        self.network = build_network(variant).to(memory_format=torch.channels_last)
        if isinstance(self.network, KeypointGuided):
            self._add_helpers(self.network)
        self.register_buffer('mean', 255 * torch.tensor(OWN.mean)[:, None, None])
        self.register_buffer('std', 255 * torch.tensor(OWN.std)[:, None, None])
        if config.freeze_after == 0:
            self._freeze(config.frozen_blocks)

    def _add_helpers(self, network: KeypointGuided) -> None:
        """Start values and parts that only training has."""
        config = self.config
        network.trunk.init_camera[0] = MEDIAN_CAMERA_SCALE
        self.decoder = HeatmapDecoder(network.backbone.channels)
        if config.backbone == 'mgfenet':
            self.early = EarlyMaps(network.backbone, config.tokens)
        if config.losses == 'pretraining':
            self.pretraining = PretrainingDecoder(network.backbone.channels)
        if config.losses == 'sheet':
            self.sheet = SheetLosses(load_body(config.body))
        else:
            start_as_centroids(network)

    def on_train_batch_start(self, batch: dict[str, torch.Tensor], index: int) -> None:
        """Freeze the leading blocks once they have settled: their gradients cost the most."""
        # Dropout then depends on the step only, so that a resumed stage repeats it.
        torch.manual_seed(1000 * self.config.seed + self.global_step)
        if self.global_step >= self.config.freeze_after > 0:
            self._freeze(self.config.frozen_blocks)

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
        terms = self._terms(self.normalised(batch['image']), batch)
        total = torch.stack(list(terms.values())).sum()
        self.log_dict(terms)
        self.log('loss', total, prog_bar=True)
        return total

    def _terms(
            self, image: torch.Tensor, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        if isinstance(self.network, CompactKeypointGuided):
            prediction, reading = self.network.stages(image)
            return compact_terms(prediction, reading, batch, self.config.read_weight)
        f = self.network.backbone(image)
        if self.config.losses == 'pretraining':
            return {'heatmaps': pretraining_loss(self.pretraining(f).float(), batch['coco'])}
        maps = self.network.tokens.maps(f)
        prediction = Prediction(*(value.float() for value in self.network.read_out(f, maps)))
        # Likelihoods and rotations need float32, whatever the network computes in.
        with torch.autocast(f.device.type, enabled=False):
            terms = self._main_terms(prediction, maps.float(), batch)
        return {**terms, **self._auxiliary(f, batch)}

    def _main_terms(
            self, prediction: Prediction, maps: torch.Tensor,
            batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        if self.config.losses == 'sheet':
            return self.sheet(prediction, batch, self.global_step >= self.config.settled_after)
        return {**loss_terms(prediction, batch), 'maps': TOKEN_SCALE * token_map_error(maps, batch)}

    def _auxiliary(
            self, f: torch.Tensor, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Dense terms that only training has."""
        terms, config = {}, self.config
        if config.early_weight > 0:
            terms['early_maps'] = config.early_weight * TOKEN_SCALE * token_map_error(
                self.early(), batch)
        if config.heatmap_weight > 0:
            heatmaps = functional.interpolate(
                self.decoder(f), size=(HEATMAP_SIZE, HEATMAP_SIZE), mode='area')
            targets = heatmap_targets(batch['uvd'][:, :JOINTS], HEATMAP_SIZE, HEATMAP_SIGMA)
            terms['heatmaps'] = config.heatmap_weight * HEATMAP_SCALE * map_error(
                heatmaps, targets, batch)
        return terms

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
                matrix = parameter.ndim > 1 and 'complex_weight' not in name
                decay = self.config.weight_decay if matrix else 0.0
                groups.setdefault((self._rate(name), decay), []).append(parameter)
        return groups

    def _rate(self, name: str) -> float:
        if self.config.losses == 'sheet':
            return 1.0
        return RATES[max((part for part in RATES if name.startswith(part)), key=len)]
