# SPDX-License-Identifier: Apache-2.0
"""What a pose network knows when its training begins."""

from __future__ import annotations

from dataclasses import replace
import itertools
import logging

from hmr_ros.networks.keypoint_guided.pyramid import PyramidNet
from hmr_ros.networks.mgil import build_pose, PoseNetwork
from hmr_ros.networks.mgil.downsampling import STRIDED
from hmr_ros.training import weights_file
from hmr_ros.training.checkpoint_file import transfer
from hmr_ros.training.engine_start import start_as_engine
from hmr_ros.training.mgil.config import PoseConfig
from hmr_ros.training.mgil.data import PoseCrops
from hmr_ros.training.mgil.import_checkpoint import read_source
from hmr_ros.training.mgil.marginal_heads import read_marginals
from hmr_ros.training.mgil.module import normalised
from hmr_ros.training.mgil.take_over import take_over
from hmr_ros.training.mgil.warm_start import embedded_state

#: batches that the statistics of norms are taken from.
_MEASURED = 8


def beginning(config: PoseConfig, crops: PoseCrops) -> PoseNetwork:
    """Build the network as the configuration has it begin; `crops` are what it will see."""
    if config.start_engine or config.warm_start == 'taken_over':
        return _as_strided(config, crops)
    network = _built(config)
    if config.start_from:
        _fill(network, config.start_from, config.warm_start)
    return network


def _built(config: PoseConfig) -> PoseNetwork:
    network = build_pose(config.variant)
    if config.head == 'marginals':
        read_marginals(network)
    return network


def _as_strided(config: PoseConfig, crops: PoseCrops) -> PoseNetwork:
    """Begin as a trained strided network, whose layers the variant's blocks take over."""
    images = [normalised(batch['images']) for batch in itertools.islice(crops, _MEASURED)]
    network = _built(replace(config, downsampling='strided'))

    def run() -> None:
        for image in images:
            network(image)
    if config.start_engine:
        paths = {name: f'backbone.{name}' for name, _ in PyramidNet().named_children()}
        start_as_engine(network, config.start_engine, paths, run)
    if config.start_from:
        _fill(network, config.start_from, 'fresh')
    variant = config.variant
    if variant.downsampling != STRIDED:
        take_over(network, variant.downsampling, run)
    network.variant = variant
    return network.train()


def _fill(network: PoseNetwork, path: str, warm_start: str) -> None:
    """Load what fits of weights of ours or of a checkpoint; what does not is told."""
    state = weights_file.network_tensors(path) if path.endswith('.safetensors') else (
        read_source(path).state)
    if warm_start == 'embedded':
        state = embedded_state(state, network)
    logging.getLogger(__name__).info(
        'start from %s: %s', path, transfer(state, network).summary)
