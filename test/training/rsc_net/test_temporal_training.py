# SPDX-License-Identifier: Apache-2.0
"""Training of the temporal networks: losses, windows, tracks, a few real steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

torch = pytest.importorskip('torch', reason='training needs torch')
pytest.importorskip('lightning', reason='training needs lightning')
from hmr_ros.body import load_body  # noqa: E402
from hmr_ros.evaluation.subject import Subject  # noqa: E402
from hmr_ros.perception import rotations  # noqa: E402
from hmr_ros.runtime import load_engine  # noqa: E402
from hmr_ros.training.errors import TrainingError  # noqa: E402
from hmr_ros.training.rsc_net.temporal_config import read_config, TemporalConfig  # noqa: E402
from hmr_ros.training.rsc_net.temporal_data import kept_frames  # noqa: E402
from hmr_ros.training.rsc_net.temporal_losses import (  # noqa: E402
    body_axis_angles, fake_error, projection_error, real_error, TemporalLosses)
from hmr_ros.training.rsc_net.temporal_train import train  # noqa: E402
from hmr_ros.training.rsc_net.tracks import read_tracks, record  # noqa: E402
from hmr_ros.training.rsc_net.weights import read_network  # noqa: E402
from hmr_ros.training.synthetic import CutoutStore, render_sequences  # noqa: E402

pytestmark = pytest.mark.torch
FRAMES = 8


@pytest.fixture(scope='module')
def films(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp('films') / 'films.npz'
    render_sequences(load_body(), 2, FRAMES, seed=4, size=96).save(path)
    return str(path)


def random_rotations(*shape: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    turns = Rotation.random(int(np.prod(shape)), rng).as_matrix()
    return turns.reshape(*shape, 3, 3).astype(np.float32)


def test_the_truth_costs_nothing() -> None:
    rotmats = random_rotations(2, 5, 24)
    pose6d = torch.from_numpy(rotations.matrix_to_6d(rotmats).reshape(2, 5, 144))
    shape = torch.randn(2, 10)
    batch = {'rotmats': torch.from_numpy(rotmats), 'shape': shape}
    terms, found, true = TemporalLosses(load_body())(pose6d, shape[:, None].expand(-1, 5, -1),
                                                     batch)
    assert set(terms) == {'joints3d', 'pose', 'betas', 'acceleration'}
    assert all(value.item() < 1e-5 for value in terms.values())
    torch.testing.assert_close(found.joints, true.joints, rtol=0, atol=1e-5)


def test_discriminator_sees_rotation_vectors() -> None:
    rotmats = random_rotations(2, 3, 24)
    found = body_axis_angles(torch.from_numpy(rotmats)).numpy()
    expected = Rotation.from_matrix(rotmats[:, :, 1:].reshape(-1, 3, 3)).as_rotvec()
    np.testing.assert_allclose(found.reshape(-1, 3), expected, atol=2e-3)


def test_bodies_at_rest_have_gradients() -> None:
    rotmats = torch.eye(3).expand(1, 2, 24, 3, 3).clone().requires_grad_()
    body_axis_angles(rotmats).sum().backward()
    assert torch.isfinite(rotmats.grad).all()


def test_points_fall_where_the_crop_camera_puts_them() -> None:
    focal, generator = 5000 / 112, torch.Generator().manual_seed(0)
    joints = 0.3 * torch.randn(1, 2, 24, 3, generator=generator)
    cam = torch.tensor([0.9, 0.1, -0.05]).expand(1, 2, 3)
    placed = joints + torch.tensor([0.1, -0.05, focal / 0.9])
    pixels = focal * placed[..., :2] / placed[..., 2:]
    assert projection_error(joints, cam, pixels).item() < 1e-10
    assert projection_error(joints, cam, pixels + 0.1).item() == pytest.approx(0.01, rel=1e-3)


def test_adversary_is_least_squares() -> None:
    score = torch.tensor([[1.0], [0.0], [0.5]])
    assert real_error(score).item() == pytest.approx((0 + 1 + 0.25) / 3)
    assert fake_error(score).item() == pytest.approx((1 + 0 + 0.25) / 3)


def test_windows_ascend_and_lose_frames() -> None:
    config = TemporalConfig(('x',), frames=40, window=16, dropped=0.4)
    rng, spans = np.random.default_rng(0), []
    for _ in range(200):
        frames = kept_frames(rng, config)
        assert len(frames) == 16 and (np.diff(frames) > 0).all()
        assert frames[0] >= 0 and frames[-1] < 40
        spans.append(frames[-1] - frames[0] + 1)
    assert min(spans) == 16 and 22 < max(spans) <= 26


def test_tracks_are_recorded_once(films: str, tmp_path: Path) -> None:
    subject = Subject.of(load_engine(), load_body())
    tracks = read_tracks(subject, (films,), FRAMES, 2, 1, tmp_path)
    assert tracks.feature.shape == (4, FRAMES, 512) and tracks.rotmats.shape[2:] == (24, 3, 3)
    store = CutoutStore.load(films)
    np.testing.assert_allclose(tracks.rotmats[0, 3], store.rotmats[3], atol=1e-6)
    np.testing.assert_allclose(tracks.shape[3], store.betas[FRAMES], atol=1e-6)
    # The two passes see the same people under other conditions.
    assert not np.array_equal(tracks.pose6d[0], tracks.pose6d[2])
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    again = read_tracks(subject, (films,), FRAMES, 2, 1, tmp_path)
    np.testing.assert_array_equal(again.pose6d, tracks.pose6d)
    assert stamps == {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}


def test_films_of_another_length_are_refused(films: str) -> None:
    subject = Subject.of(load_engine(), load_body())
    with pytest.raises(TrainingError, match='films of 7 frames'):
        record(subject, CutoutStore.load(films), 7, 1)


@pytest.mark.parametrize('network, extra', [
    ('body_filter', {'hidden': 160, 'acceleration': 10.0}),
    ('rsc_temporal', {'hidden': 32, 'joints2d': 300.0})])
def test_a_few_steps(network: str, extra: dict[str, float], films: str, tmp_path: Path) -> None:
    config = TemporalConfig((films,), network=network, frames=FRAMES, window=6, batch=2, steps=4,
                            **extra)
    path = train(config, tmp_path)
    trained, facts = read_network(path)
    assert (facts.network, facts.features) == (network, 512)
    assert facts.features_of == load_engine().sha256
    assert all(torch.isfinite(value).all() for value in trained.state_dict().values())
    curve = next((tmp_path / 'curves').rglob('metrics.csv')).read_text().splitlines()
    assert {'adversarial', 'discriminator', 'joints3d'} <= set(curve[0].split(','))
    assert len(curve) == 5


@pytest.mark.parametrize('text, named', [
    ('films: [a]\nnetwork: lstm', "network .* 'lstm'"), ('films: [a]\nwindow: 60', 'window .* 60'),
    ('films: [a]\njoints2d: 1', 'no camera'), ('hidden: 3', 'must name films')])
def test_bad_configuration_is_named(text: str, named: str, tmp_path: Path) -> None:
    path = tmp_path / 'stage.yaml'
    path.write_text(text)
    with pytest.raises(TrainingError, match=named):
        read_config(path)
