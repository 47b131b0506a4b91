# SPDX-License-Identifier: Apache-2.0
"""A few steps of training on small crops, and what goes into them."""

from __future__ import annotations

from dataclasses import replace
import itertools
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='training needs torch')
pytest.importorskip('lightning', reason='training needs lightning')
from hmr_ros.body import load_body  # noqa: E402
from hmr_ros.networks.mgil import build_pose, NAMED  # noqa: E402
from hmr_ros.perception import simcc  # noqa: E402
from hmr_ros.perception.crops import CropTransform, MARGIN  # noqa: E402
from hmr_ros.runtime import load_engine  # noqa: E402
from hmr_ros.runtime.manifest import read_manifest  # noqa: E402
from hmr_ros.training.errors import TrainingError  # noqa: E402
from hmr_ros.training.mgil.config import PoseConfig, read_config, WIDE  # noqa: E402
from hmr_ros.training.mgil.data import (  # noqa: E402
    compose_maps, from_afar, half_body, jitter, PoseCrops, training_loader)
from hmr_ros.training.mgil.export import export_engine  # noqa: E402
from hmr_ros.training.mgil.module import PoseModule  # noqa: E402
from hmr_ros.training.mgil.pictures import Pictures, training_pictures  # noqa: E402
from hmr_ros.training.mgil.train import train  # noqa: E402
from hmr_ros.training.mgil.warm_start import embedded_kernel  # noqa: E402
from hmr_ros.training.mgil.targets import gaussian_targets, smoothed_targets  # noqa: E402
from hmr_ros.training.mgil.weights import read_network  # noqa: E402
from hmr_ros.training.synthetic import render_cutouts  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.fixture(scope='module')
def config(tmp_path_factory: pytest.TempPathFactory) -> PoseConfig:
    path = tmp_path_factory.mktemp('stores') / 'people.npz'
    render_cutouts(load_body(), 6, seed=4, size=96).save(path)
    return PoseConfig((str(path),), size=32, batch=4, steps=4, pictures=8, largest=40,
                      learning_rate=1e-3)


@pytest.fixture(scope='module')
def pictures(config: PoseConfig) -> Pictures:
    return training_pictures(config, load_body())


def spots(count: int, side: int) -> Pictures:
    """Pictures with one bright spot of 5 pixels, which all 17 keypoints mark."""
    rng, images = np.random.default_rng(0), np.zeros((count, side, side, 3), np.uint8)
    points = rng.uniform(0.4 * side, 0.6 * side, (count, 2))
    rows, columns = np.mgrid[:side, :side]
    for image, (x, y) in zip(images, points):
        image[:] = (255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 12))[..., None]
    return Pictures(images, np.repeat(points[:, None], 17, 1).astype(np.float32),
                    np.full((count, 17), 2, np.uint8), np.ones(count, np.float32))


def test_labels_stay_on_what_they_mark(config: PoseConfig) -> None:
    """Through distance, turn, mirror and scale."""
    batch = next(iter(PoseCrops(replace(config, size=64, batch=48), spots(4, config.side))))
    images = batch['images'][:, 0].double().numpy()
    inside = ((batch['points'][:, 0] > 6) & (batch['points'][:, 0] < 57)).all(1).numpy()
    rows, columns = np.mgrid[:64, :64]
    found = np.stack([(images * grid).sum((1, 2)) for grid in (columns, rows)], 1)
    found /= images.sum((1, 2))[:, None]
    apart = np.linalg.norm(found - batch['points'][:, 0].numpy(), axis=1)
    assert inside.sum() > 30 and apart[inside].max() < 0.5, apart


def test_a_crop_without_jitter_is_the_live_crop(
        config: PoseConfig, pictures: Pictures, monkeypatch: pytest.MonkeyPatch) -> None:
    """Same sampler, same place as the box's crop of perception."""
    monkeypatch.setattr('hmr_ros.training.mgil.data._FLIPPED', 0.0)
    still = replace(config, zoom=0.0, turn_deg=0.0, half_body=0.0, smallest=config.largest)
    batch = next(iter(PoseCrops(still, pictures)))
    rng = np.random.default_rng([config.seed, 19, 0])
    middle, half = config.side / 2, config.side / WIDE / 2
    transform = simcc.CROPS.place(
        np.array([middle - 3, middle - half, middle + 3, middle + half]), config.size)
    for row, index in enumerate(rng.integers(len(pictures), size=config.batch)):
        live = simcc.CROPS.cut(pictures.images[index], transform)
        np.testing.assert_array_equal(batch['images'][row], live.transpose(2, 0, 1))
        np.testing.assert_allclose(
            batch['points'][row], transform.to_crop(pictures.points[index]), atol=1e-4)


def test_a_mirrored_crop_swaps_left_and_right(
        config: PoseConfig, pictures: Pictures, monkeypatch: pytest.MonkeyPatch) -> None:
    still = replace(config, zoom=0.0, turn_deg=0.0, half_body=0.0, smallest=config.largest)
    known = Pictures(pictures.images, pictures.points, pictures.visibility.copy(), pictures.area)
    known.visibility[:, 5] = 0
    found = []
    for chance in (0.0, 1.0):
        monkeypatch.setattr('hmr_ros.training.mgil.data._FLIPPED', chance)
        found.append(next(iter(PoseCrops(still, known))))
    order = simcc.mirrored_order(simcc.COCO_NAMES)
    (plain, plain_known), (turned, turned_known) = (
        (batch['points'].numpy(), batch['labelled'].numpy()) for batch in found)
    np.testing.assert_allclose(turned[:, order, 0], config.size - plain[..., 0], atol=1e-3)
    np.testing.assert_allclose(turned[:, order, 1], plain[..., 1], atol=1e-3)
    np.testing.assert_array_equal(turned_known[:, order], plain_known)
    assert not turned_known[:, 6].any() and turned_known[:, 5].any()


def test_from_afar_keeps_places() -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    image[20:24, 40:44] = 255
    small, matrix = from_afar(image, 0.25)
    assert small.shape == (16, 16, 3) and small[5, 10].min() == 255 and small.sum() == 3 * 255
    np.testing.assert_allclose(matrix @ (41.5, 21.5, 1), (10, 5))
    identity = compose_maps(matrix, np.float64([[4, 0, 1.5], [0, 4, 1.5]]))
    np.testing.assert_allclose(identity, [[1, 0, 0], [0, 1, 0]], atol=1e-12)


def test_jitter_has_the_published_spreads(config: PoseConfig) -> None:
    rng, known = np.random.default_rng(0), np.zeros(17, bool)
    maps, mirrored = zip(*(jitter(config, np.zeros((17, 2)), known, rng) for _ in range(2000)))
    linear = np.stack(maps)[:, :, :2]
    scale = np.sqrt(np.abs(np.linalg.det(linear)))
    plain = CropTransform(0, 0, MARGIN * config.side / WIDE, config.size).matrix[0, 0]
    assert 0.65 - 1e-6 <= (plain / scale).min() < 0.66 and 1.34 < (plain / scale).max() < 1.36
    angle = np.degrees(np.arctan2(linear[:, 1, 0], np.abs(linear[:, 1, 1])))
    assert 0.37 < np.mean(angle == 0) < 0.43 and 0.47 < np.mean(mirrored) < 0.53
    np.testing.assert_array_equal(np.linalg.det(linear) < 0, mirrored)


def test_half_a_body() -> None:
    points, known = np.zeros((17, 2)), np.ones(17, bool)
    points[:11, 1], points[11:, 1] = np.arange(11), 100 + np.arange(6)
    found = [half_body(points, known, np.random.default_rng(i)) for i in range(200)]
    upper = np.array([centre[1] < 50 for centre, _ in found])
    assert 0.6 < upper.mean() < 0.78
    assert {side for _, side in found} == {15.0, 7.5}
    known[:] = False
    assert half_body(points, known, np.random.default_rng(0)) is None


def test_batches_depend_on_seed_and_number_only(config: PoseConfig, pictures: Pictures) -> None:
    whole = list(itertools.islice(PoseCrops(config, pictures), 4))
    later = list(itertools.islice(PoseCrops(config, pictures, 2), 2))
    for one, other in zip(whole[2:], later):
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert not torch.equal(whole[0]['images'], whole[1]['images'])
    beside = next(iter(training_loader(config, pictures, 1, 3)))
    assert torch.equal(beside['images'], whole[3]['images'])


def test_pictures_are_kept_and_told_apart(config: PoseConfig, tmp_path: Path) -> None:
    kept = replace(config, keep=str(tmp_path / 'pictures.npz'), pictures=3)
    first, again = (training_pictures(kept, load_body()) for _ in range(2))
    np.testing.assert_array_equal(first.images, again.images)
    np.testing.assert_array_equal(first.points, again.points)
    with pytest.raises(TrainingError, match='were made from'):
        training_pictures(replace(kept, seed=2), load_body())
    # Other networks see the same pictures.
    training_pictures(replace(kept, downsampling='spd', size=64, steps=9), load_body())


@pytest.mark.parametrize('downsampling', ['strided', 'spd', 'mgil', 'control'])
def test_every_variant_learns(
        downsampling: str, config: PoseConfig, pictures: Pictures) -> None:
    torch.manual_seed(0)
    config = replace(config, downsampling=downsampling, size=32)
    module = PoseModule(config, build_pose(config.variant))
    module.log = lambda *args, **kwargs: None
    batch = next(iter(training_loader(config, pictures, 0)))
    adam = module.configure_optimizers()['optimizer']
    for group in adam.param_groups:
        group['lr'] = 1e-3
    losses = []
    for _ in range(6):
        loss = module.training_step(batch, 0)
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
    assert all(p.grad is not None for p in module.network.parameters())


def test_a_resumed_run_ends_as_an_uninterrupted_one(config: PoseConfig, tmp_path: Path) -> None:
    config = replace(config, downsampling='strided', checkpoint_every=2,
                     keep=str(tmp_path / 'pictures.npz'))
    whole, _ = read_network(train(config, tmp_path / 'whole', workers=0))
    checkpoint = tmp_path / 'half' / 'last.ckpt'

    class Stop(RuntimeError):
        pass

    def stop(module: PoseModule, batch: object, index: int) -> None:
        if module.global_step == 3:
            raise Stop

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PoseModule, 'on_train_batch_start', stop, raising=False)
        with pytest.raises(Stop):
            train(config, tmp_path / 'half', workers=0)
    resumed, _ = read_network(
        train(config, tmp_path / 'half', workers=0, resume=str(checkpoint)))
    for (name, one), other in zip(whole.state_dict().items(), resumed.state_dict().values()):
        assert torch.equal(one, other), name


@pytest.mark.parametrize('labels', ['smoothing', 'gaussian'])
def test_weights_know_the_peak_of_their_labels(
        labels: str, config: PoseConfig, tmp_path: Path) -> None:
    config = replace(config, steps=1, backbone='tiny', labels=labels, sigma=2.0, smoothing=0.3)
    _, facts = read_network(train(config, tmp_path, workers=0))
    point, known = torch.full((1, 1, 2), 10.0), torch.ones(1, 1)
    targets = gaussian_targets(point, known, (96, 96), 3, 2.0) if labels == 'gaussian' else (
        smoothed_targets(point, known, (96, 96), 3, 0.3))
    assert facts.top_score == pytest.approx(float(targets.x.max()))


def test_trained_weights_become_an_engine(config: PoseConfig, tmp_path: Path) -> None:
    path = train(replace(config, steps=2, downsampling='lite'), tmp_path, workers=0)
    network, facts = read_network(path)
    assert facts.variant.downsampling == NAMED['lite'] and facts.score_mode == 'max'
    facts = replace(
        facts, color_order='bgr', score_mode='min', flip_shift=1, top_score=0.25)
    export_engine(network, None, tmp_path, 'mine', 'float32', facts)
    entry = read_manifest(tmp_path)['mine']
    assert (entry.network, entry.image_size) == ('mgil', 32)
    assert (entry.color_order, entry.score_mode, entry.flip_shift, entry.top_score) == (
        'bgr', 'min', 1, 0.25)
    image = np.random.default_rng(0).normal(size=(3, 3, 32, 32)).astype(np.float32)
    found = load_engine(str(tmp_path / 'mine.onnx')).run({'image': image})
    with torch.no_grad():
        x, y = network.eval()(torch.from_numpy(image))
    np.testing.assert_allclose(found['simcc_x'], x, atol=1e-4)
    np.testing.assert_allclose(found['simcc_y'], y, atol=1e-4)
    begun = train(replace(config, steps=1, downsampling='spd', start_from=str(path),
                          learning_rate=0.0), tmp_path / 'next', workers=0)
    after, _ = read_network(begun)
    assert torch.equal(after.mlp_head_x.weight, network.mlp_head_x.weight)


@pytest.mark.parametrize('warm_start', ['fresh', 'embedded'])
def test_a_training_begins_with_the_kernels_of_a_strided_one_if_asked(
        warm_start: str, config: PoseConfig, tmp_path: Path) -> None:
    still = replace(config, steps=1, learning_rate=0.0)
    before = train(replace(still, downsampling='strided'), tmp_path / 'before', workers=0)
    after = train(replace(still, downsampling='spd', start_from=str(before), seed=5,
                          warm_start=warm_start), tmp_path / 'after', workers=0)
    host, network = (read_network(path)[0] for path in (before, after))
    assert torch.equal(network.conv1.conv.weight, embedded_kernel(host.conv1.weight)) == (
        warm_start == 'embedded')


@pytest.mark.parametrize('schedule', ['steps', 'one_cycle'])
def test_schedules(schedule: str, config: PoseConfig) -> None:
    config = replace(config, schedule=schedule, steps=210)
    found = PoseModule(config, build_pose(config.variant)).configure_optimizers()
    rates = []
    for _ in range(210):
        rates.append(found['optimizer'].param_groups[0]['lr'])
        found['optimizer'].step()
        found['lr_scheduler']['scheduler'].step()
    assert max(rates) == pytest.approx(1e-3)
    if schedule == 'steps':
        np.testing.assert_allclose([rates[0], rates[169], rates[170], rates[199], rates[200]],
                                   [1e-3, 1e-3, 1e-4, 1e-4, 1e-5])
    else:
        assert np.argmax(rates) == 20 and rates[-1] < 1e-6


@pytest.mark.parametrize('text, named', [
    ('stores: [a]\ndownsampling: x', "downsampling .* 'x'"),
    ('stores: [a]\nbatch: 1', 'batch .* 1'),
    ('stores: [a]\nsize: 40', '40x40'), ('stores: [a]\nbackbone: vgg', "'vgg'"),
    ('stores: [a]\nlargest: 10', 'largest .* 10'), ('stores: [a]\nrate: 3', 'rate'),
    ('size: 64', 'must name stores')])
def test_bad_configuration_is_named(text: str, named: str, tmp_path: Path) -> None:
    path = tmp_path / 'stage.yaml'
    path.write_text(text)
    with pytest.raises(TrainingError, match=named):
        read_config(path)
