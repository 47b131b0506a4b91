# SPDX-License-Identifier: Apache-2.0
"""Weights become engines that the runtime loads by their manifest entry."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='export needs torch')
from hmr_ros.body import load_body  # noqa: E402
from hmr_ros.networks.rsc_net import RscTemporal  # noqa: E402
from hmr_ros.perception import rsc_net  # noqa: E402
from hmr_ros.runtime import load_engine  # noqa: E402
from hmr_ros.training.errors import TrainingError  # noqa: E402
from hmr_ros.training.rsc_net.export import export_engine  # noqa: E402
from hmr_ros.training.rsc_net.weights import (  # noqa: E402
    build_network, IMAGE, read_facts, read_network, RscFacts, save_weights, TEMPORAL)

pytestmark = pytest.mark.torch
SMALL = RscFacts(TEMPORAL, False, features=64, hidden=32, features_of='a' * 64)


def test_image_engine_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    entry = export_engine(build_network(RscFacts(IMAGE)).eval(), load_body(), tmp_path, 'far')
    assert entry.dtypes == {'row': 'int32'} and entry.regressor_relu is True
    assert (tmp_path / entry.file).stat().st_size < 60e6
    monkeypatch.setenv('HMR_ENGINES_DIR', str(tmp_path))
    engine = load_engine('rsc_net')
    outputs = engine.run({'image': np.zeros((2, 3, 224, 224), np.float32),
                          'row': rsc_net.rows_of(np.array([300.0, 30.0]))})
    rsc_net.check_outputs(outputs)
    assert outputs['feature'].shape == (2, 2048)


def test_temporal_engine_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = export_engine(
        build_network(SMALL).eval(), load_body(), tmp_path, 'smooth', facts=SMALL)
    assert entry.features_of == 'a' * 64 and entry.regressor_relu is False
    assert (entry.image_size, entry.mean) == (0, ())
    monkeypatch.setenv('HMR_ENGINES_DIR', str(tmp_path))
    engine = load_engine('rsc_temporal')
    outputs = engine.run({'feature': np.zeros((3, 64), np.float32),
                          'h_in': np.zeros((2, 3, 32), np.float32)})
    assert outputs['h_out'].shape == (2, 3, 32) and outputs['pose6d'].shape == (3, 144)


@pytest.mark.parametrize('facts, named', [
    (RscFacts(TEMPORAL, False, 64, 32, body_model='smpl'), "'smpl', but 'open_body'"),
    (RscFacts(TEMPORAL, True, 64, 32), 'regressor_relu True')])
def test_facts_that_do_not_fit_are_refused(
        facts: RscFacts, named: str, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=named):
        export_engine(build_network(SMALL), load_body(), tmp_path, 'mixed', facts=facts)
    assert not list(tmp_path.iterdir())


def test_facts_travel_with_the_weights(tmp_path: Path) -> None:
    network = build_network(SMALL)
    state = {f'network.{name}': value for name, value in network.state_dict().items()}
    path = save_weights(
        {**state, 'discriminator.score.bias': torch.zeros(1)}, tmp_path / 'w.safetensors', SMALL)
    again, facts = read_network(path)
    assert facts == SMALL and isinstance(again, RscTemporal)
    for a, b in zip(network.state_dict().values(), again.state_dict().values()):
        torch.testing.assert_close(a, b, atol=0, rtol=0)


def test_weights_of_another_system_are_refused(tmp_path: Path) -> None:
    path = save_weights({'network.a': torch.zeros(1)}, tmp_path / 'w.safetensors',
                        RscFacts('rsc_texture'))
    with pytest.raises(TrainingError, match="'rsc_texture'"):
        read_facts(path)
