# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of the digitizer: read whole, or refused by the name of what is wrong (check 11)."""

from __future__ import annotations

from collections.abc import Callable
import hashlib
from pathlib import Path

import pytest

torch = pytest.importorskip('torch', reason='importing checkpoints needs torch')
pytest.importorskip('safetensors', reason='weights files need safetensors')
from published import Published  # noqa: E402
from torch import nn  # noqa: E402

from hmr_ros.networks.digitizer_2k2k import Digitizer, Variant  # noqa: E402
from hmr_ros.training.digitizer_2k2k import import_checkpoint as importing  # noqa: E402
from hmr_ros.training.digitizer_2k2k.import_checkpoint import (  # noqa: E402
    import_checkpoint, their_name)
from hmr_ros.training.digitizer_2k2k.weights import (  # noqa: E402
    DigitizerFacts, read_network, save_weights)
from hmr_ros.training.errors import TrainingError  # noqa: E402

pytestmark = pytest.mark.torch
State = dict[str, torch.Tensor]
#: a sixteenth of the published width.
TINY = Variant(2048, 1 / 16)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the published networks a sixteenth as wide; their names stay."""
    monkeypatch.setattr(importing, 'PUBLISHED', TINY)


@pytest.fixture(scope='module')
def theirs(settled: Callable[[nn.Module], nn.Module]) -> Published:
    torch.manual_seed(0)
    network = Published(4)
    return settled(network).requires_grad_(False)


def written(state: State, folder: Path) -> Path:
    path = folder / 'ckpt.pth.tar'
    torch.save({'epoch': 3, 'model': 'digitizer', 'best_loss': 0.1, 'model_state_dict': state,
                'optimizer_state_dict': {'state': {}, 'param_groups': []}}, path)
    return path


def test_names_and_shapes_of_the_published_file() -> None:
    with torch.device('meta'):
        ours, published = Digitizer(Variant()).state_dict(), Published().state_dict()
    assert len(published) == 1504
    assert sum(not name.startswith('refine.') for name in published) == 1414
    assert {their_name(name): value.shape for name, value in ours.items()} == {
        name: value.shape for name, value in published.items()}


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize('prefix', ['', 'module.'])
def test_imported_networks_give_what_the_published_ones_give(
        prefix: str, theirs: Published, tmp_path: Path) -> None:
    state = {prefix + name: value for name, value in theirs.state_dict().items()}
    path, out = written(state, tmp_path), tmp_path / 'out.safetensors'
    facts = import_checkpoint(path, out)
    ours, read = read_network(out)
    assert read == facts == DigitizerFacts(
        2048, 1 / 16, 2, hashlib.sha256(path.read_bytes()).hexdigest(), 'CC-BY-NC-4.0')
    ours.eval()
    patch, image, seen = random(2, 6, 32, 48), random(1, 3, 32, 32), random(1, 6, 32, 32, seed=1)
    pair, merged = 3 + random(1, 2, 8, 8), random(1, 6, 64, 64, seed=1)
    pairs = [(ours.parts[name](patch), getattr(theirs, f'img2normal_{part}')(patch))
             for name, part in zip(ours.parts, ('face', 'upper', 'arm', 'leg', 'shoe'))]
    pairs += [(ours.low_normals(image), theirs.img2normal_down(image)),
              (ours.low_depth(image, seen), theirs.ImgNorm_to_Dep(image, seen)),
              (ours.high_depth(pair, merged), theirs.refine(pair, merged))]
    for found, expected in pairs:
        assert expected.std() > 1e-3
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert len({round(expected.sum().item(), 3) for _, expected in pairs}) == len(pairs)


def test_counters_may_be_missing(theirs: Published, tmp_path: Path) -> None:
    state = {name: value for name, value in theirs.state_dict().items()
             if not name.endswith('num_batches_tracked')}
    import_checkpoint(written(state, tmp_path), tmp_path / 'out.safetensors')
    assert read_network(tmp_path / 'out.safetensors')[1].phase == 2


def first_phase(state: State) -> State:
    return {name: value for name, value in state.items() if not name.startswith('refine.')}


def test_files_of_the_first_phase_are_taken_when_that_is_asked_for(
        theirs: Published, tmp_path: Path) -> None:
    path, out = written(first_phase(theirs.state_dict()), tmp_path), tmp_path / 'out.safetensors'
    with pytest.raises(TrainingError, match=r'no tensors refine\.\*.*--allow-phase1'):
        import_checkpoint(path, out)
    assert not out.exists()
    assert import_checkpoint(path, out, least_phase=1).phase == 1
    network, _ = read_network(out)
    image = random(1, 3, 32, 32)
    torch.testing.assert_close(network.eval().low_normals(image), theirs.img2normal_down(image))
    assert network.high_depth.block1.merge[0].weight.std() > 0


def without_a_key(state: State) -> State:
    return {name: value for name, value in state.items()
            if name != 'img2normal_leg.Att3.psi.0.bias'}


def without_one_of_the_second_phase(state: State) -> State:
    return {name: value for name, value in state.items() if name != 'refine.merge3_2.weight'}


def misshapen(state: State) -> State:
    return {**state, 'ImgNorm_to_Dep.Conv_1x1.weight': torch.zeros(3, 4, 3, 3)}


def with_another(state: State) -> State:
    return {**state, 'img2normal_hand.Conv1.conv.0.weight': torch.zeros(2)}


def not_finite(state: State) -> State:
    return {**state, 'refine.normal2.conv.1.bias': torch.full((2,), float('nan'))}


@pytest.mark.parametrize(('spoil', 'message'), [
    (without_a_key, r"lacks 'img2normal_leg\.Att3\.psi\.0\.bias'"),
    (without_one_of_the_second_phase, r"lacks 'refine\.merge3_2\.weight'"),
    (misshapen, r"'ImgNorm_to_Dep\.Conv_1x1\.weight' has shape \(3, 4, 3, 3\)"),
    (with_another, r"'img2normal_hand\.Conv1\.conv\.0\.weight'"),
    (not_finite, r"'refine\.normal2\.conv\.1\.bias' .* not finite")])
def test_wrong_files_are_refused_by_name(
        spoil: Callable[[State], State], message: str, theirs: Published, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=message):
        import_checkpoint(written(spoil(theirs.state_dict()), tmp_path),
                          tmp_path / 'out.safetensors')
    assert not (tmp_path / 'out.safetensors').exists()


def test_weights_of_no_such_networks_are_refused(tmp_path: Path) -> None:
    path = tmp_path / 'odd.safetensors'
    save_weights({'x': torch.zeros(1)}, path, DigitizerFacts(768))
    with pytest.raises(TrainingError, match='resolution of digitizer_2k2k is 768'):
        read_network(path)
