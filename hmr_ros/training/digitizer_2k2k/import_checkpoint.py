# SPDX-License-Identifier: Apache-2.0
"""The authors' checkpoints of the digitizer, tensor by tensor (sheet, section 7)."""

from __future__ import annotations

from pathlib import Path
import re

import torch

from hmr_ros.networks.digitizer_2k2k import Digitizer, Variant
from hmr_ros.runtime.manifest import file_sha256
from hmr_ros.training.checkpoint_file import read_checkpoint, refuse_left, State, take
from hmr_ros.training.digitizer_2k2k.weights import DigitizerFacts, save_weights, SECOND_PHASE
from hmr_ros.training.errors import TrainingError

#: what the checkpoints are of, and under.
PUBLISHED = Variant(2048, 1.0)
LICENCE = 'CC-BY-NC-4.0'
#: counters that nothing needs.
COUNTER = '.num_batches_tracked'
_SECOND_PHASE = 'refine.'
#: our networks, as theirs; parts of names within them follow, the first that fits.
_NETWORKS = {
    'parts.head': 'img2normal_face', 'parts.torso': 'img2normal_upper',
    'parts.arm': 'img2normal_arm', 'parts.leg': 'img2normal_leg', 'parts.foot': 'img2normal_shoe',
    'low_normals': 'img2normal_down', 'low_depth': 'ImgNorm_to_Dep', 'high_depth': 'refine'}
_LAYERS = tuple((re.compile(ours), theirs) for ours, theirs in (
    (r'image_encoder(\d)\.', r'Conv\1_1.conv.'), (r'normal_encoder(\d)\.', r'Conv\1_2.conv.'),
    (r'encoder(\d)\.', r'Conv\1.conv.'), (r'decoder(\d)\.', r'Up_conv\1.conv.'),
    (r'gate(\d)\.gating\.', r'Att\1.W_g.'), (r'gate(\d)\.skip\.', r'Att\1.W_x.'),
    (r'gate(\d)\.score\.', r'Att\1.psi.'), (r'up(\d)\.', r'Up\1.up.'),
    (r'block(\d)\.depth\.', r'depth\1.up.'), (r'block(\d)\.normal\.', r'normal\1.conv.'),
    (r'block(\d)\.merge\.', r'merge\1_1.conv.'), (r'block3\.last\.', 'merge3_2.'),
    (r'block(\d)\.last\.', r'merge\1_2.conv.'), (r'head\.', 'Conv_1x1.conv.0.')))
#: of the low-resolution depth the last layer stands alone.
_LAST = ('ImgNorm_to_Dep.Conv_1x1.conv.0.', 'ImgNorm_to_Dep.Conv_1x1.')


def their_name(name: str) -> str:
    """Return the checkpoints' name of a tensor of ours."""
    ours, theirs = next(pair for pair in _NETWORKS.items() if name.startswith(f'{pair[0]}.'))
    inner = name.removeprefix(f'{ours}.')
    for pattern, layer in _LAYERS:
        if pattern.match(inner):
            inner = pattern.sub(layer, inner, count=1)
            break
    return f'{theirs}.{inner}'.replace(*_LAST)


def import_checkpoint(
        path: str | Path, out: str | Path, least_phase: int = 2) -> DigitizerFacts:
    """
    Convert `ckpt_*.pth.tar` into a weights file of ours; returns its facts.

    least_phase  1 takes files without high-resolution depth, which is trained in phase 2, too

    Every tensor is used once, dropped because the sheet says so (counters), or named in the
    TrainingError that refuses the file.
    """
    found = read_checkpoint(path)
    phase = 2 if any(key.startswith(_SECOND_PHASE) for key in found) else 1
    if phase < least_phase:
        raise TrainingError(
            f'checkpoint {path} has no tensors {_SECOND_PHASE}*, the high-resolution depth: it is '
            'of phase 1. Take one of phase 2, or allow phase 1 (--allow-phase1) for the others')
    state = {name: _taken(found, name, value, path) for name, value in _wanted(phase).items()}
    refuse_left(found, 'the digitizer', path)
    facts = DigitizerFacts(
        PUBLISHED.resolution, PUBLISHED.width, phase, file_sha256(Path(path)), LICENCE)
    save_weights(state, out, facts)
    return facts


def _wanted(phase: int) -> State:
    """Tensors of the networks, without memory."""
    with torch.device('meta'):
        state = Digitizer(PUBLISHED).state_dict()
    return {name: value for name, value in state.items()
            if phase == 2 or not name.startswith(SECOND_PHASE)}


def _taken(found: State, name: str, ours: torch.Tensor, path: str | Path) -> torch.Tensor:
    theirs = their_name(name)
    if name.endswith(COUNTER):
        return found.pop(theirs, torch.zeros((), dtype=torch.long))
    return take(found, theirs, tuple(ours.shape), path).float()
