# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of RSC-Net, SPIN and VIBE, tensor by tensor (sheet, section 5)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
import re
from typing import Callable
import warnings

import torch

from hmr_ros.networks.rsc_net import ContrastiveHead
from hmr_ros.networks.rsc_net.backbone import STAGES
from hmr_ros.training.checkpoint_file import read_checkpoint, refuse_left, take
from hmr_ros.training.errors import TrainingError
from hmr_ros.training.rsc_net.weights import (
    build_network, CONTRAST, IMAGE, RscFacts, save_weights, TEMPORAL)

State = dict[str, torch.Tensor]
LICENCE = 'unknown: ask the authors of the checkpoint'
#: our names -> those of the release, every rule that matches.
RULES = tuple((re.compile(pattern), name) for pattern, name in (
    (r'^network\.', ''),
    (r'^contrast\.', 'layer4_mlp.'),
    (r'^backbone\.', ''),
    (r'^layer([1-4])\.(\d+)\.', r'layer\1.hmr_layer.\2.'),
    (r'^regressor\.', ''),
    (r'^pose\.', 'decpose.'),
    (r'^betas\.', 'decshape.'),
    (r'^camera\.', 'deccam.'),
    (r'^init_betas$', 'init_shape'),
    (r'^init_camera$', 'init_cam')))
_ALPHAS = 'network.backbone.alphas.'
_HEAD = 'layer4_mlp.'


@dataclass(frozen=True)
class Layout:
    """
    One program's checkpoints.

    program  whose they are
    mark     a key that only they have
    facts    what their weights are for
    view     our tensors under their keys, in the same memory
    ignored  beginning of keys that hold no weights
    """

    program: str
    mark: re.Pattern[str]
    facts: RscFacts
    view: Callable[[State], State]
    ignored: str | None = None


def import_checkpoint(path: str | Path, out: str | Path) -> RscFacts:
    """
    Convert a checkpoint of RSC-Net, SPIN or VIBE into a weights file of ours; returns its facts.

    Every tensor of the file is used once, ignored because it is licensed body data, or named in the
    TrainingError that refuses the file. Warns when the file claims ranges that nothing tells apart.
    """
    found = read_checkpoint(path)
    layout = layout_of(found, path)
    state = _empty_state(layout, found)
    for key, ours in layout.view(state).items():
        ours.copy_(take(found, key, tuple(ours.shape), path))
    left = {key: value for key, value in found.items()
            if layout.ignored is None or not key.startswith(layout.ignored)}
    refuse_left(left, layout.program, path)
    alphas = [value for name, value in state.items() if name.startswith(_ALPHAS)]
    if layout is RSC_NET and all(bool((alpha == 1).all()) for alpha in alphas):
        warnings.warn(
            f'checkpoint {path}: all 80 alphas are 1, so every resolution is treated alike; was it '
            'trained, and is it the right file?', stacklevel=2)
    save_weights(state, out, layout.facts)
    return layout.facts


def layout_of(found: State, path: str | Path) -> Layout:
    """Tell whose checkpoint it is by its keys."""
    if any(key.startswith('encoder.gru.') and key.endswith('_reverse') for key in found):
        raise TrainingError(
            f'checkpoint {path} holds a bidirectional GRU, which needs the future; only causal '
            'ones can run live. Train VIBE with bidirectional off')
    for layout in LAYOUTS:
        if any(layout.mark.match(key) for key in found):
            return layout
    raise TrainingError(
        f'checkpoint {path} is of none of {", ".join(one.program for one in LAYOUTS)}: its first '
        f'key is {next(iter(found))!r}')


def _empty_state(layout: Layout, found: State) -> State:
    """Return our tensors that the checkpoint must fill, before they are filled."""
    network = build_network(layout.facts)
    state = {f'network.{name}': value for name, value in network.state_dict().items()}
    if layout is RSC_NET and any(key.startswith(_HEAD) for key in found):
        head = ContrastiveHead().state_dict()
        state.update({f'{CONTRAST}{name}': value for name, value in head.items()})
    return state


def release_view(state: State) -> State:
    """
    Return tensors of a weights file, in the same memory, under the keys of RSC-Net's release.

    With the contrastive head there are 355.
    """
    theirs = {}
    for name, value in state.items():
        if name.startswith(_ALPHAS):
            row = name.removeprefix(_ALPHAS)
            theirs.update({
                f'layer{stage}.alphas.{row}': part.view(-1, 1, 1, 1, 1)
                for stage, part in enumerate(value.split(STAGES), start=1)})
        else:
            theirs[_release_key(name)] = value[None] if '.init_' in name else value
    return theirs


def _release_key(name: str) -> str:
    for pattern, theirs in RULES:
        name = pattern.sub(theirs, name)
    return name


def _spin_view(state: State) -> State:
    """SPIN has no alphas, which stay 1 here, and no contrastive head."""
    shared = {name: value for name, value in state.items() if not name.startswith(_ALPHAS)}
    return {key.replace('.hmr_layer.', '.'): value
            for key, value in release_view(shared).items()}


def _vibe_view(state: State) -> State:
    regressor = {name: value for name, value in state.items() if '.regressor.' in name}
    encoder = {name: value for name, value in state.items() if name not in regressor}
    return {
        **{name.replace('network.', 'encoder.', 1): value for name, value in encoder.items()},
        **{f'regressor.{key}': value for key, value in release_view(regressor).items()}}


RSC_NET = Layout(
    'RSC-Net', re.compile(r'layer\d\.(hmr_layer|alphas)\.'),
    RscFacts(IMAGE, True, body_model='smpl', licence=LICENCE), release_view)
SPIN = Layout(
    'SPIN', re.compile(r'layer1\.\d+\.'),
    RscFacts(IMAGE, False, body_model='smpl', licence=LICENCE), _spin_view)
VIBE = Layout(
    'VIBE', re.compile(r'encoder\.gru\.'),
    RscFacts(TEMPORAL, False, body_model='smpl', licence=LICENCE), _vibe_view,
    'regressor.smpl.')
LAYOUTS = (RSC_NET, SPIN, VIBE)
