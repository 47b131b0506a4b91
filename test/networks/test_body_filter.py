# SPDX-License-Identifier: Apache-2.0
"""The recurrent filter of whole bodies: causal, step by step as at once, exported alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='networks need torch')
from hmr_ros.networks.rsc_net import BodyFilter  # noqa: E402
from hmr_ros.networks.rsc_net.temporal import gru_gates  # noqa: E402

pytestmark = pytest.mark.torch
WIDTH = 160


def sequences(count: int = 2, frames: int = 12) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(3)
    return tuple(torch.randn(count, frames, width, generator=generator) for width in (20, 144, 10))


@pytest.fixture
def network() -> BodyFilter:
    torch.manual_seed(0)
    network = BodyFilter(20, WIDTH).eval()
    with torch.no_grad():  # heads that begin near nothing would hide mistakes
        for head in (network.gain, network.correction, network.speed):
            head.weight.normal_(0, 0.3)
    return network


@torch.no_grad()
def test_step_by_step_as_at_once(network: BodyFilter) -> None:
    inputs = sequences()
    whole = network(*inputs)
    state = torch.zeros(3, 2, WIDTH)
    for frame in range(12):
        step = network.step(*(value[:, frame] for value in inputs), state)
        state = step.h_out
        torch.testing.assert_close(step.pose6d, whole.pose6d[:, frame], rtol=0, atol=1e-6)
    torch.testing.assert_close(state, whole.h_out, rtol=0, atol=1e-6)


@torch.no_grad()
def test_the_future_changes_nothing(network: BodyFilter) -> None:
    inputs = sequences()
    before = network(*inputs)
    for value in inputs:
        value[:, 8:] += 1
    after = network(*inputs)
    assert torch.equal(before.pose6d[:, :8], after.pose6d[:, :8])
    assert not torch.equal(before.pose6d[:, 8:], after.pose6d[:, 8:])


@torch.no_grad()
def test_a_fresh_filter_gives_out_still_bodies_as_they_are() -> None:
    torch.manual_seed(0)
    network = BodyFilter(20, WIDTH).eval()
    feature, pose6d, betas = (value[:, :1].expand(-1, 12, -1) for value in sequences())
    found = network(feature, pose6d, betas)
    torch.testing.assert_close(found.pose6d, pose6d, rtol=0, atol=0.05)
    torch.testing.assert_close(found.betas, betas, rtol=0, atol=0.05)


def test_gates_are_those_of_torch() -> None:
    cell = torch.nn.GRUCell(5, 7)
    x, h = torch.randn(3, 5), torch.randn(3, 7)
    ours = gru_gates(x, h, cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh)
    torch.testing.assert_close(ours, cell(x, h))


def test_engine_equals_module(network: BodyFilter, tmp_path: Path) -> None:
    from hmr_ros.runtime import load_engine
    from hmr_ros.training.rsc_net.export import export_body_filter
    from hmr_ros.training.rsc_net.rounding import rounded
    network = rounded(network)
    engine = load_engine(str(export_body_filter(network, tmp_path / 'filter.onnx')))
    state, inputs = np.zeros((3, 2, WIDTH), np.float32), sequences()
    for frame in range(12):
        feeds = {name: np.ascontiguousarray(value[:, frame].numpy())
                 for name, value in zip(('feature', 'pose6d_in', 'betas_in'), inputs)}
        outputs = engine.run({**feeds, 'h_in': state})
        state = outputs['h_out']
    with torch.no_grad():
        whole = network(*inputs)
    np.testing.assert_allclose(outputs['pose6d'], whole.pose6d[:, -1], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(outputs['betas'], whole.betas[:, -1], rtol=1e-5, atol=1e-5)


def test_graph_suits_every_engine(network: BodyFilter, tmp_path: Path) -> None:
    import onnx
    from hmr_ros.training.rsc_net.export import export_body_filter
    model = onnx.load(export_body_filter(network, tmp_path / 'filter.onnx'))
    assert not {node.op_type for node in model.graph.node} & {
        'If', 'Loop', 'Where', 'Expand', 'Shape', 'GRU', 'Scan'}
    shapes = {tensor.name: [d.dim_param or d.dim_value for d in tensor.type.tensor_type.shape.dim]
              for tensor in [*model.graph.input, *model.graph.output]}
    assert shapes == {
        'feature': ['people', 20], 'pose6d_in': ['people', 144], 'betas_in': ['people', 10],
        'h_in': [3, 'people', WIDTH], 'pose6d': ['people', 144], 'betas': ['people', 10],
        'h_out': [3, 'people', WIDTH]}
