# SPDX-License-Identifier: Apache-2.0
"""Runs one training of a pose network; `hmr train mgil CONFIG`."""

from __future__ import annotations

from dataclasses import replace
import itertools
import logging
from pathlib import Path

import lightning
from lightning.pytorch.callbacks import ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import CSVLogger
import torch

from hmr_ros.body import load_body
from hmr_ros.networks.keypoint_guided.pyramid import PyramidNet
from hmr_ros.networks.mgil import build_pose, PoseNetwork
from hmr_ros.networks.mgil.downsampling import STRIDED
from hmr_ros.training import weights_file
from hmr_ros.training.engine_start import start_as_engine
from hmr_ros.training.mgil.config import PoseConfig
from hmr_ros.training.mgil.data import PoseCrops, training_loader
from hmr_ros.training.mgil.import_checkpoint import read_source, transfer
from hmr_ros.training.mgil.marginal_heads import read_marginals
from hmr_ros.training.mgil.module import normalised, PoseModule
from hmr_ros.training.mgil.pictures import training_pictures
from hmr_ros.training.mgil.take_over import take_over
from hmr_ros.training.mgil.warm_start import embedded_state
from hmr_ros.training.mgil.weights import PoseFacts, save_weights
from hmr_ros.training.turns import steps_done

#: batches that the statistics of an engine's norms are taken from.
_MEASURED = 8


def train(
        config: PoseConfig, out: str | Path, workers: int = 1, resume: str | None = None,
        devices: int = 1) -> Path:
    """
    Train and write `weights.safetensors` and curves below `out`.

    workers  processes that cut crops, for each device; devices GPUs, or processes without one
    resume   checkpoint of the same training that was interrupted; it goes on as if it had not been
    """
    torch.manual_seed(config.seed)
    first = devices * steps_done(resume) if resume else 0
    loader = training_loader(config, training_pictures(config, load_body()), workers, first)
    network = beginning(config, loader.dataset)
    module = PoseModule(config, network.to(memory_format=torch.channels_last))
    trainer = lightning.Trainer(
        devices=devices, precision=config.precision, max_steps=config.steps,
        default_root_dir=out, gradient_clip_val=None,
        logger=CSVLogger(out, name='curves', flush_logs_every_n_steps=50),
        log_every_n_steps=min(25, max(1, config.steps // 40)), callbacks=[
            RichProgressBar(refresh_rate=20),
            ModelCheckpoint(out, 'last', every_n_train_steps=config.checkpoint_every, save_top_k=1,
                            enable_version_counter=False)])
    trainer.fit(module, loader, ckpt_path=resume)
    path = Path(out) / 'weights.safetensors'
    # All processes end with the same weights; two writers would spoil the file.
    if trainer.is_global_zero:
        _save(module, path)
    return path


def beginning(config: PoseConfig, crops: PoseCrops) -> PoseNetwork:
    """Build the network as the configuration has it begin; `crops` are what it will see."""
    if config.start_engine:
        return _as_engine(config, crops)
    network = build_pose(config.variant)
    if config.head == 'marginals':
        read_marginals(network)
    if config.start_from:
        _begin_as(network, config.start_from, config.warm_start)
    return network


def _as_engine(config: PoseConfig, crops: PoseCrops) -> PoseNetwork:
    """Build the strided network as an engine, then let the variant's blocks take over."""
    variant = config.variant
    network = build_pose(replace(variant, downsampling=STRIDED))
    if config.head == 'marginals':
        read_marginals(network)
    images = [normalised(batch['images']) for batch in itertools.islice(crops, _MEASURED)]

    def run() -> None:
        for image in images:
            network(image)
    paths = {name: f'backbone.{name}' for name, _ in PyramidNet().named_children()}
    start_as_engine(network, config.start_engine, paths, run)
    if variant.downsampling != STRIDED:
        take_over(network, variant.downsampling, run)
    network.variant = variant
    return network.train()


def _begin_as(network: PoseNetwork, path: str, warm_start: str) -> None:
    """Load what fits of weights of ours or of a checkpoint; what does not is told."""
    state = weights_file.network_tensors(path) if path.endswith('.safetensors') else (
        read_source(path).state)
    if warm_start == 'embedded':
        state = embedded_state(state, network)
    logging.getLogger(__name__).info(
        'start from %s: %s', path, transfer(state, network).summary)


def _save(module: PoseModule, path: Path) -> None:
    config = module.config
    smoothing = config.labels == 'smoothing'
    facts = PoseFacts.of(
        config.variant, labels=config.labels, score_mode='max' if smoothing else 'min')
    save_weights({f'{weights_file.NETWORK}{name}': value.detach().cpu()
                  for name, value in module.network.state_dict().items()}, path, facts)
