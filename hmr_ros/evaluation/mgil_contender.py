# SPDX-License-Identifier: Apache-2.0
"""Pose networks of mgil as they are judged: engines and weights files, read in one way or two."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hmr_ros.evaluation.errors import EvaluationError
from hmr_ros.perception import simcc
from hmr_ros.perception.crops import CropTransform, level_tables
from hmr_ros.perception.simcc import Vectors
from hmr_ros.runtime import load_engine

#: inputs `image`, normalised, to logits `simcc_x`, `simcc_y`, as an engine runs them.
Run = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]
#: names of the keypoints by their number: COCO's and MPII's.
NAMES = {len(names): names for names in (simcc.COCO_NAMES, simcc.MPII_NAMES)}
#: SimCC averages logits of networks with Gaussian labels, whose lower peak is their score.
_AVERAGES = {'max': 'probabilities', 'min': 'logits'}


@dataclass(frozen=True)
class Contender:
    """
    A network that finds keypoints.

    name, sha256, run  the engine's or file's
    size               side of its crops in pixels
    split_ratio        bins per pixel;  score_mode: see `simcc.decode`
    mean, std          normalisation, in `color_order`
    flip_shift         see `simcc.with_mirrored`, None for the one of the split ratio
    keypoints          how many: 17 of COCO or 16 of MPII
    top_score          see `KeypointSettings`
    """

    name: str
    sha256: str
    run: Run
    size: int
    split_ratio: float
    score_mode: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    color_order: str = 'rgb'
    flip_shift: int | None = None
    keypoints: int = 17
    top_score: float = 1.0


#: how a contender reads normalised crops `(N, 3, S, S)`.
Look = Callable[[Contender, np.ndarray], Vectors]


def contender(name: str, names: Sequence[str]) -> Contender:
    """
    Load an engine or a weights file that finds the keypoints `names`.

    Raises EvaluationError when it is of another network or finds others.
    """
    one = _of_weights(name) if name.endswith('.safetensors') else _of_engine(name)
    if one.keypoints != len(names):
        raise EvaluationError(
            f'{name!r} finds {one.keypoints} keypoints; expected {len(names)}, {names[0]} to '
            f'{names[-1]}. Choose a network that was trained on them')
    return one


def _of_engine(name: str) -> Contender:
    engine = load_engine(name)
    entry = engine.entry
    if entry is None or entry.network != 'mgil' or 'simcc_x' not in entry.outputs:
        raise EvaluationError(
            f'engine {name!r} is of the network {getattr(entry, "network", "of no manifest")}; '
            'expected a pose engine of mgil')
    _, keypoints, bins = entry.outputs['simcc_x']
    return Contender(
        engine.name, engine.sha256, engine.run, entry.image_size, bins / entry.image_size,
        entry.score_mode or 'max', entry.mean, entry.std, entry.color_order, entry.flip_shift,
        keypoints, entry.top_score)


def _of_weights(path: str) -> Contender:
    import torch

    from hmr_ros.networks.mgil.deploy import deployable
    from hmr_ros.runtime.manifest import file_sha256
    from hmr_ros.training.mgil.weights import read_network
    network, facts = read_network(path)
    network = deployable(network)

    def run(feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        with torch.no_grad():
            x, y = network(torch.from_numpy(feeds['image']))
        return {'simcc_x': x.numpy(), 'simcc_y': y.numpy()}

    return Contender(
        f'{Path(path).parent.name}/{Path(path).stem}', file_sha256(Path(path)), run, facts.width,
        facts.split_ratio, facts.score_mode, facts.mean, facts.std, facts.color_order,
        facts.flip_shift, facts.keypoints, facts.top_score)


def look_once(one: Contender, batch: np.ndarray) -> Vectors:
    """Read crops as they are, as the live pipeline does."""
    return simcc.probabilities(one.run({'image': batch}))


def look_flipped(one: Contender, batch: np.ndarray) -> Vectors:
    """Read crops and their mirror images, and average (sheet, section 1, flip test)."""
    shift = simcc.flip_shift_of(one.split_ratio) if one.flip_shift is None else one.flip_shift
    outputs = one.run({'image': batch})
    mirrored = one.run({'image': np.ascontiguousarray(batch[..., ::-1])})
    return simcc.with_mirrored(
        outputs, mirrored, simcc.mirrored_order(NAMES[one.keypoints]), shift,
        _AVERAGES[one.score_mode])


#: ways to look, as `--flip` chooses.
LOOKS: dict[str, Look] = {'once': look_once, 'flip': look_flipped}


def keypoints_in(
        one: Contender, images: Sequence[np.ndarray], crops: Sequence[CropTransform],
        look: Look = look_once) -> tuple[np.ndarray, np.ndarray]:
    """
    Find keypoints `(N, K, 2)`, float32 pixels of the images, and their scores `(N, K)`.

    images  N pictures uint8 RGB `(H, W, 3)`, which may be the same ones
    crops   where the person is in each
    """
    places, scores = simcc.decode(
        look(one, batch_of(images, crops, one)), one.split_ratio, one.score_mode)
    return simcc.to_image(places, crops), np.minimum(scores / one.top_score, 1)


def batch_of(
        images: Sequence[np.ndarray], crops: Sequence[CropTransform],
        one: Contender) -> np.ndarray:
    """Cut and normalise `(N, 3, S, S)` float32 as the live pipeline does."""
    cut = np.stack([simcc.CROPS.cut(image, crop) for image, crop in zip(images, crops)])
    if one.color_order == 'bgr':
        cut = cut[..., ::-1]
    planes = [table[cut[..., i]] for i, table in enumerate(level_tables(one.mean, one.std))]
    return np.ascontiguousarray(np.stack(planes, 1), np.float32)
