# SPDX-License-Identifier: Apache-2.0
"""Runs one training of the digitizer; `hmr train digitizer_2k2k CONFIG`."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from hmr_ros.networks.digitizer_2k2k import build_network, Digitizer
from hmr_ros.training import weights_file
from hmr_ros.training.checkpoint_file import transfer
from hmr_ros.training.digitizer_2k2k.config import DigitizerConfig
from hmr_ros.training.digitizer_2k2k.data import training_loader
from hmr_ros.training.digitizer_2k2k.module import DigitizerModule, soften_heads
from hmr_ros.training.digitizer_2k2k.weights import DigitizerFacts, facts_of, save_weights
from hmr_ros.training.trainer import build_trainer
from hmr_ros.training.turns import steps_done

#: of a network of normals: what sees the image.
FIRST_LAYER = 'encoder1.0'


def train(
        config: DigitizerConfig, out: str | Path, workers: int = 1, resume: str | None = None,
        devices: int = 1) -> Path:
    """
    Train one phase and write `weights.safetensors`, of all networks, and curves below `out`.

    workers  processes that make samples, for each device; devices GPUs, or processes without one
    resume   checkpoint of the same training that was interrupted; it goes on as if it had not been
    """
    torch.manual_seed(config.seed)
    # Weights that die out are numbers so small that a processor is slow with them.
    torch.set_flush_denormal(True)
    first = devices * steps_done(resume) if resume else 0
    loader = training_loader(config, workers, first)
    module = DigitizerModule(config, beginning(config).to(memory_format=torch.channels_last))
    trainer = build_trainer(
        config, out, config.steps, devices, config.checkpoint_every, config.clip)
    trainer.fit(module, loader, ckpt_path=resume)
    path = Path(out) / 'weights.safetensors'
    # All processes end with the same weights; two writers would spoil the file.
    if trainer.is_global_zero:
        save_weights(module.network.state_dict(), path, DigitizerFacts(
            config.resolution, config.width, _phases_done(config)))
    return path


def _phases_done(config: DigitizerConfig) -> int:
    if config.phase == 'high':
        return 2
    return facts_of(config.start_from).phase if config.start_from else 1


def beginning(config: DigitizerConfig) -> Digitizer:
    """Build the networks as the configuration has them begin."""
    network = build_network(config.variant)
    soften_heads(network)
    if config.start_from:
        state = weights_file.network_tensors(config.start_from)
        logging.getLogger(__name__).info(
            'start from %s: %s', config.start_from, transfer(state, network).summary)
    if config.parts_begin == 'low_normals':
        parts_as_low(network)
    return network


def parts_as_low(network: Digitizer) -> None:
    """Let networks of parts begin as that of the whole image, deaf to the normals they are told."""
    state = network.low_normals.state_dict()
    first = f'{FIRST_LAYER}.weight'
    colours = state[first]
    state[first] = torch.cat([colours, torch.zeros_like(colours)], 1)
    for part in network.parts.values():
        part.load_state_dict(state)
