# SPDX-License-Identifier: Apache-2.0
"""The causal GRU and its discriminator against the sheet, checks 1, 8 and 10."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='networks need torch')
from hmr_ros.networks.rsc_net import RscTemporal  # noqa: E402
from hmr_ros.networks.rsc_net.deploy import TemporalStep  # noqa: E402
from hmr_ros.networks.rsc_net.discriminator import MotionDiscriminator  # noqa: E402

pytestmark = pytest.mark.torch


def parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture(scope='module')
def network() -> RscTemporal:
    """The published widths, with decoders that speak."""
    torch.manual_seed(0)
    network = RscTemporal()
    with torch.no_grad():
        for decoder in (network.regressor.pose, network.regressor.betas, network.regressor.camera):
            decoder.weight.mul_(20)
    return network.eval()


@pytest.fixture(scope='module')
def video() -> torch.Tensor:
    return torch.rand(1, 300, 2048, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope='module')
def whole(network: RscTemporal, video: torch.Tensor) -> list[np.ndarray]:
    """One pass over the whole sequence: pose6d, betas, cam of 300 frames, and the last state."""
    with torch.no_grad():
        *body, state = network(video)
    return [*(part[0].numpy() for part in body), state.numpy()]


def test_parameter_counts(network: RscTemporal) -> None:
    """Check 1 and section 8."""
    assert parameters(network.gru) == 15_740_928 and parameters(network.linear) == 2_099_200
    assert parameters(network) == 21_309_597
    discriminator = MotionDiscriminator()
    assert parameters(discriminator.gru) == 9_661_440
    assert parameters(discriminator.attention) == 2_100_225
    assert parameters(discriminator) == 11_762_690


def test_steps_equal_the_sequence(
        network: RscTemporal, video: torch.Tensor, whole: list[np.ndarray]) -> None:
    """Check 8: 300 frames, the state carried by hand."""
    step, state, bodies = TemporalStep(network), torch.zeros(2, 1, 1024), []
    with torch.no_grad():
        for frame in video[0]:
            *body, state = step(frame[None], state)
            bodies.append(body)
    for part, expected in zip(zip(*bodies), whole):
        assert np.abs(torch.cat(part).numpy() - expected).max() < 1e-5
    assert np.abs(state.numpy() - whole[-1]).max() < 1e-5


def test_the_future_changes_nothing(network: RscTemporal, video: torch.Tensor) -> None:
    """Check 8: exactly."""
    other = video[:, :40].clone()
    other[:, 20:] = torch.rand(1, 20, 2048)
    with torch.no_grad():
        first, second = network(video[:, :40]), network(other)
    for a, b in zip(first[:3], second[:3]):
        assert torch.equal(a[:, :20], b[:, :20]) and not torch.equal(a[:, 20], b[:, 20])


def test_residual_and_regressor_on_top(network: RscTemporal, video: torch.Tensor) -> None:
    """Section 2.4: a silent GRU leaves the image network's own body."""
    import copy
    silent = copy.deepcopy(network)
    torch.nn.init.zeros_(silent.linear.weight)
    torch.nn.init.zeros_(silent.linear.bias)
    with torch.no_grad():
        for value, expected in zip(silent(video[:, :5])[:3], network.regressor(video[:, :5])):
            torch.testing.assert_close(value, expected, atol=0, rtol=0)


@pytest.fixture(scope='module')
def session(network: RscTemporal, tmp_path_factory: pytest.TempPathFactory) -> object:
    import onnxruntime
    from hmr_ros.training.rsc_net.export import export_rsc_temporal
    path = export_rsc_temporal(network, tmp_path_factory.mktemp('onnx') / 'step.onnx', 'float32')
    return onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])


def run(session: object, feature: np.ndarray, state: np.ndarray) -> list[np.ndarray]:
    return session.run(
        ['pose6d', 'betas', 'cam', 'h_out'], {'feature': feature, 'h_in': state})


def test_onnx_steps_equal_the_sequence(
        session: object, video: torch.Tensor, whole: list[np.ndarray]) -> None:
    """Check 8, in ONNX Runtime."""
    state, bodies = np.zeros((2, 1, 1024), np.float32), []
    for frame in video[0].numpy():
        *body, state = run(session, frame[None], state)
        bodies.append(body)
    for part, expected in zip(zip(*bodies), whole):
        assert np.abs(np.concatenate(part) - expected).max() < 1e-5
    assert np.abs(state - whole[-1]).max() < 1e-5


def test_interleaved_tracks_equal_separate_runs(session: object) -> None:
    """Check 8: one engine for both, each with its own state; a reset track is a new one."""
    features = np.random.default_rng(3).random((2, 6, 1, 2048), dtype=np.float32)
    states = [np.zeros((2, 1, 1024), np.float32)] * 2
    together = {0: [], 1: []}
    for frame in range(6):
        for track in (0, 1):
            *body, states[track] = run(session, features[track, frame], states[track])
            together[track].append(body)
    for track in (0, 1):
        state = np.zeros((2, 1, 1024), np.float32)
        for frame in range(6):
            *body, state = run(session, features[track, frame], state)
            for a, b in zip(body, together[track][frame]):
                np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize('tracks', [1, 3, 5])
def test_onnx_equals_torch(session: object, network: RscTemporal, tracks: int) -> None:
    """Check 10."""
    feature, state = torch.rand(tracks, 2048), torch.rand(2, tracks, 1024)
    with torch.no_grad():
        *expected, h_out = network(feature[:, None], state)
    values = run(session, feature.numpy(), state.numpy())
    for value, reference in zip(values, [*(part[:, 0] for part in expected), h_out]):
        assert value.shape == tuple(reference.shape)
        assert np.abs(value - reference.numpy()).max() < 1e-4


def test_graph_suits_every_engine(network: RscTemporal, tmp_path: Path) -> None:
    """Check 10, for the stored form: the batch is axis 0 of the feature and axis 1 of the state."""
    import onnx
    from hmr_ros.training.rsc_net.export import export_rsc_temporal
    path = export_rsc_temporal(network, tmp_path / 'step.onnx')
    assert path.stat().st_size < 45e6 and list(tmp_path.iterdir()) == [path]
    model = onnx.load(path)
    assert not {node.op_type for node in model.graph.node} & {
        'If', 'Loop', 'Where', 'Expand', 'Shape', 'GRU', 'Scan'}
    shapes = {tensor.name: [d.dim_param or d.dim_value for d in tensor.type.tensor_type.shape.dim]
              for tensor in [*model.graph.input, *model.graph.output]}
    assert shapes == {
        'feature': ['people', 2048], 'h_in': [2, 'people', 1024], 'pose6d': ['people', 144],
        'betas': ['people', 10], 'cam': ['people', 3], 'h_out': [2, 'people', 1024]}


def test_other_features_have_the_same_module() -> None:
    """A GRU for another image network's features."""
    network = RscTemporal(features=384, hidden=64).eval()
    assert (network.features, network.hidden) == (384, 64)
    with torch.no_grad():
        *body, state = TemporalStep(network)(torch.rand(2, 384), torch.zeros(2, 2, 64))
    assert [part.shape[1] for part in body] == [144, 10, 3] and state.shape == (2, 2, 64)


def test_discriminator_scores_whole_motions() -> None:
    """Section 2.5: one score per motion, for one motion too; weights over time sum to 1."""
    torch.manual_seed(4)
    discriminator = MotionDiscriminator().eval()
    motion = torch.randn(3, 16, 69)
    with torch.no_grad():
        scores = discriminator(motion)
        assert scores.shape == (3, 1)
        torch.testing.assert_close(discriminator(motion[:1]), scores[:1])
        y, _ = discriminator.gru(motion[:1].expand(1, 16, 69))
        weights = discriminator.attention(y)[0, :, 0].exp()
        mean = (weights[:, None] * y[0]).sum(0) / weights.sum()
        torch.testing.assert_close(discriminator.score(mean), scores[0])
    for layer in (discriminator.attention[0], discriminator.attention[6]):
        assert 0.09 < layer.weight.abs().max() <= 0.1 and (layer.bias == 0.01).all()


def test_rounded_weights_are_stored_without_loss(network: RscTemporal, tmp_path: Path) -> None:
    import onnxruntime
    from hmr_ros.training.rsc_net.export import export_rsc_temporal
    from hmr_ros.training.rsc_net.rounding import rounded
    network = rounded(network)
    path = export_rsc_temporal(network, tmp_path / 'half.onnx')
    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    feature, state = torch.rand(2, 2048), torch.rand(2, 2, 1024)
    with torch.no_grad():
        *expected, h_out = network(feature[:, None], state)
    values = run(session, feature.numpy(), state.numpy())
    for value, reference in zip(values, [*(part[:, 0] for part in expected), h_out]):
        assert np.abs(value - reference.numpy()).max() < 1e-5
