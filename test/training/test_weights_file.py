# SPDX-License-Identifier: Apache-2.0
"""Weights of several runs become one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

torch = pytest.importorskip('torch', reason='weights files need torch')
from hmr_ros.training import weights_file  # noqa: E402
from hmr_ros.training.errors import TrainingError  # noqa: E402

pytestmark = pytest.mark.torch


@dataclass(frozen=True)
class Facts:
    """What a file is for."""

    use: str = 'a'


def write(folder: Path, name: str, value: float, use: str = 'a', width: int = 3) -> Path:
    state = {'network.w': torch.full((width,), value), 'network.n': torch.tensor(int(value))}
    return weights_file.save(state, folder / name, 'mine', Facts(use))


def test_mean_of_all_runs_with_the_facts_of_each(tmp_path: Path) -> None:
    paths = [write(tmp_path, f'{i}.safetensors', value) for i, value in enumerate((1.0, 2.0, 6.0))]
    out = weights_file.average(paths, tmp_path / 'mean.safetensors')
    state = weights_file.tensors_of(out)
    assert state['network.w'].tolist() == [3.0, 3.0, 3.0] and state['network.n'].item() == 1
    assert weights_file.facts_of(out, 'mine', Facts) == Facts()


@pytest.mark.parametrize('other', [{'use': 'b'}, {'width': 4}])
def test_what_does_not_belong_together_is_refused(other: dict, tmp_path: Path) -> None:
    paths = [write(tmp_path, 'a.safetensors', 1.0), write(tmp_path, 'b.safetensors', 2.0, **other)]
    with pytest.raises(TrainingError, match='b.safetensors are of another network'):
        weights_file.average(paths, tmp_path / 'mean.safetensors')


def test_helpers_that_not_all_have_are_left_out(tmp_path: Path) -> None:
    first, second = (write(tmp_path, f'{i}.safetensors', i) for i in (1.0, 3.0))
    state = {**weights_file.tensors_of(second), 'contrast.w': torch.ones(2)}
    second = weights_file.save(state, tmp_path / 'more.safetensors', 'mine', Facts())
    for paths in ([first, second], [second, first]):
        mean = weights_file.tensors_of(weights_file.average(paths, tmp_path / 'mean.safetensors'))
        assert set(mean) == {'network.w', 'network.n'} and mean['network.w'][0] == 2
