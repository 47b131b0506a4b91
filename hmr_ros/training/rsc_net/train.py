# SPDX-License-Identifier: Apache-2.0
"""Runs one training of the image network; `hmr train rsc_net CONFIG`."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import torch

from hmr_ros.body import load_body
from hmr_ros.body.model import BodyModel
from hmr_ros.networks.rsc_net import RscNet
from hmr_ros.networks.rsc_net.backbone import ScaledPyramid
from hmr_ros.training.engine_start import start_as_engine
from hmr_ros.training.errors import TrainingError
from hmr_ros.training.rsc_net.config import RscConfig
from hmr_ros.training.rsc_net.data import Resolutions, training_loader
from hmr_ros.training.rsc_net.module import RscModule
from hmr_ros.training.rsc_net.rounding import rounded
from hmr_ros.training.rsc_net.skeletons import teach_regressor
from hmr_ros.training.rsc_net.weights import CONTRAST, read_network, RscFacts, save_weights
from hmr_ros.training.trainer import build_trainer
from hmr_ros.training.turns import steps_done

_MOST_GRADIENT = 5.0
#: batches that the statistics of an engine's norms are taken from.
_MEASURED = 30
_FACTS = RscFacts()


def train(
        config: RscConfig, out: str | Path, workers: int = 1, resume: str | None = None,
        devices: int = 1) -> Path:
    """
    Train and write `weights.safetensors` and curves below `out`.

    A length of 0 leaves the network as it begins, which may have taken a while.

    workers  processes that make samples, for each device; devices GPUs, or processes without one
    resume   checkpoint of the same training that was interrupted
    """
    torch.manual_seed(config.seed)
    first = devices * steps_done(resume) if resume else 0
    loader = training_loader(config, workers, first)
    body = load_body()
    network = _network(config, loader.dataset, body).to(memory_format=torch.channels_last)
    module = RscModule(config, network, body)
    trainer = build_trainer(config, out, config.schedule.steps, devices, clip=_MOST_GRADIENT)
    if config.schedule.steps:
        trainer.fit(module, loader, ckpt_path=resume)
    Path(out).mkdir(parents=True, exist_ok=True)
    return _save(module, Path(out) / 'weights.safetensors')


def _network(config: RscConfig, data: Resolutions, body: BodyModel) -> RscNet:
    """Build the network: trained already, or fresh with the mean body of the data."""
    if config.start_from:
        return _trained(config.start_from, config.backbone)
    network, store = RscNet(backbone=config.backbone), data.store
    if config.start_engine:
        begin_as_engine(network.backbone, config.start_engine, data)
    with torch.no_grad():
        pose = store.rotmats[..., :2].mean(0)
        # Everybody upright, from all sides: the mean of the pelvis is no rotation.
        pose[0] = np.array([[1, 0], [0, -1], [0, 0]])
        network.regressor.init_pose.copy_(torch.from_numpy(pose).flatten())
        network.regressor.init_betas.copy_(torch.from_numpy(store.betas.mean(0)))
    if config.skeletons:
        teach_regressor(network, body, config.skeletons, config.skeleton_steps, config.seed)
    return network


def begin_as_engine(backbone: ScaledPyramid, engine: str, data: Resolutions) -> None:
    """See `start_as_engine`, for the crops of `data`."""
    mean, std = (255 * torch.tensor(values)[:, None, None] for values in (_FACTS.mean, _FACTS.std))

    def run() -> None:
        for batch in itertools.islice(data, _MEASURED):
            image = (batch['images'][0].float() - mean) / std
            backbone(image, torch.zeros(len(image), dtype=torch.long))
    start_as_engine(backbone, engine, {'pyramid': 'backbone', 'maps': 'maps'}, run)


def _trained(path: str, backbone: str) -> RscNet:
    network, facts = read_network(path)
    if facts.backbone != backbone:
        raise TrainingError(f'start_from {path} has the backbone {facts.backbone}; the '
                            f'configuration says {backbone}')
    return network


def _save(module: RscModule, path: Path) -> Path:
    """Write the weights as the engine will hold them, with the head where it was trained."""
    state = {f'network.{name}': value
             for name, value in rounded(module.network).state_dict().items()}
    if module.config.kind.contrasted:
        state.update({f'{CONTRAST}{name}': value
                      for name, value in module.contrast.state_dict().items()})
    facts = RscFacts(features=module.network.features, backbone=module.config.backbone)
    return save_weights(state, path, facts)
