# SPDX-License-Identifier: Apache-2.0
"""The networks as engines run them: folded norms, split first layer, GRU gates (sheet 7)."""

from __future__ import annotations

import copy
import itertools

import torch
from torch import nn
from torch.nn import functional

from hmr_ros.networks.folding import fold_norms
from hmr_ros.networks.keypoint_guided.deploy import fold_norm
from hmr_ros.networks.keypoint_guided.pyramid import Rise
from hmr_ros.networks.rsc_net.backbone import ScaledBackbone
from hmr_ros.networks.rsc_net.body_filter import BodyFilter, FilteredBody
from hmr_ros.networks.rsc_net.network import RscNet
from hmr_ros.networks.rsc_net.prediction import (
    Body, Prediction, STATE_WIDTH, TemporalPrediction, WIDTHS)
from hmr_ros.networks.rsc_net.regressor import HIDDEN, ITERATIONS, Regressor
from hmr_ros.networks.rsc_net.temporal import gru_gates, LAYERS, RscTemporal
from hmr_ros.networks.rsc_net.texture import RscTexture


class SplitRegressor(nn.Module):
    """
    The regressor unrolled: the feature's part of fc1 once, the state's part per iteration.

    It starts from a constant that broadcasts, so the graph has no node that asks for the batch.
    """

    def __init__(self, source: Regressor) -> None:
        super().__init__()
        features = source.fc1.in_features - STATE_WIDTH
        self.feature = nn.Linear(features, HIDDEN)
        self.state = nn.Linear(STATE_WIDTH, HIDDEN, bias=False)
        self.decoder = nn.Linear(HIDDEN, STATE_WIDTH)
        self.fc2, self.activation = source.fc2, source.activation
        decoders = (source.pose, source.betas, source.camera)
        with torch.no_grad():
            weight, state = source.fc1.weight.split([features, STATE_WIDTH], 1)
            self.feature.weight.copy_(weight)
            self.feature.bias.copy_(source.fc1.bias)
            self.state.weight.copy_(state)
            self.decoder.weight.copy_(torch.cat([part.weight for part in decoders]))
            self.decoder.bias.copy_(torch.cat([part.bias for part in decoders]))
            self.register_buffer('start', source.start)
            self.register_buffer('start_part', self.state(source.start))

    def forward(self, feature: torch.Tensor) -> Body:
        """Compute the body `(N, 144)`, `(N, 10)`, `(N, 3)` of features `(N, F)`."""
        from_feature = self.feature(feature)
        state = self.start + self._decode(from_feature + self.start_part)
        for _ in range(ITERATIONS - 1):
            state = state + self._decode(from_feature + self.state(state))
        return Body(*state.split(WIDTHS, -1))

    def _decode(self, x: torch.Tensor) -> torch.Tensor:
        return self.decoder(self.activation(self.fc2(self.activation(x))))


class RowEngine(nn.Module):
    """rsc_net for every row: alpha is a constant `(5, blocks)` that `row` looks up."""

    def __init__(self, network: RscNet) -> None:
        super().__init__()
        self.backbone = folded(network.backbone)
        self.regressor = SplitRegressor(network.regressor)
        self.register_buffer('alpha', torch.stack(list(network.backbone.alphas)).detach())
        _freeze(self)

    def forward(self, image: torch.Tensor, row: torch.Tensor) -> Prediction:
        """Map crops `(N, 3, S, S)` and int32 rows `(N,)`."""
        scales = self.alpha.index_select(0, row)[:, :, None, None].split(1, 1)
        feature = self.backbone.scaled(image, scales)
        return Prediction(*self.regressor(feature), feature)


class SingleRowEngine(nn.Module):
    """rsc_net for one row: alpha is inside the convolutions, a plain network is left."""

    def __init__(self, network: RscNet, row: int) -> None:
        super().__init__()
        self.backbone = folded(network.backbone)
        for scale, block in zip(network.backbone.alphas[row].detach(), self.backbone.blocks):
            last = block.get_submodule(block.last)
            last.weight.data.mul_(scale)
            last.bias.data.mul_(scale)
        self.regressor = SplitRegressor(network.regressor)
        _freeze(self)

    def forward(self, image: torch.Tensor) -> Prediction:
        """Map crops `(N, 3, S, S)`."""
        feature = self.backbone.scaled(image, itertools.repeat(None))
        return Prediction(*self.regressor(feature), feature)


class TemporalStep(nn.Module):
    """One frame of rsc_temporal, the gates spelled out: no loop, every product a plain one."""

    def __init__(self, network: RscTemporal) -> None:
        super().__init__()
        self.gru = copy.deepcopy(network.gru)
        self.linear = copy.deepcopy(network.linear)
        self.regressor = SplitRegressor(copy.deepcopy(network.regressor))
        _freeze(self)

    def forward(self, feature: torch.Tensor, h_in: torch.Tensor) -> TemporalPrediction:
        """Map features `(N, F)` and states `(2, N, hidden)`, zeros for a new track."""
        x, states = feature, []
        for layer in range(LAYERS):
            x = gru_gates(x, h_in[layer], *(
                getattr(self.gru, f'{name}_l{layer}')
                for name in ('weight_ih', 'weight_hh', 'bias_ih', 'bias_hh')))
            states.append(x)
        smooth = feature + self.linear(functional.relu(x))
        return TemporalPrediction(*self.regressor(smooth), torch.stack(states))


class FilterStep(nn.Module):
    """One frame of body_filter, which is made of plain products already."""

    def __init__(self, network: BodyFilter) -> None:
        super().__init__()
        self.network = copy.deepcopy(network)
        _freeze(self)

    def forward(
            self, feature: torch.Tensor, pose6d: torch.Tensor, betas: torch.Tensor,
            h_in: torch.Tensor) -> FilteredBody:
        """See BodyFilter.step."""
        return self.network.step(feature, pose6d, betas, h_in)


def texture_engine(network: RscTexture) -> RscTexture:
    """Return a copy in evaluation mode whose batch norms are inside its convolutions."""
    network = copy.deepcopy(network).eval()
    fold_norms(network)
    _freeze(network)
    return network


def folded(backbone: ScaledBackbone) -> ScaledBackbone:
    """Return a copy in evaluation mode whose batch norms are inside its convolutions."""
    backbone = copy.deepcopy(backbone).eval()
    fold_norms(backbone)
    for module in backbone.modules():
        if isinstance(module, Rise):
            fold_norm(module)
    return backbone


def _freeze(module: nn.Module) -> None:
    module.eval().requires_grad_(False)
