# SPDX-License-Identifier: Apache-2.0
"""A few steps of every phase on small people, and what goes into them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
import itertools
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='training needs torch')
pytest.importorskip('lightning', reason='training needs lightning')
from hmr_ros.networks.digitizer_2k2k import build_network, Variant  # noqa: E402
from hmr_ros.networks.digitizer_2k2k.depth import depths  # noqa: E402
from hmr_ros.perception.digitizer import normals, patches  # noqa: E402
from hmr_ros.perception.digitizer.alignment import align, Alignment  # noqa: E402
from hmr_ros.perception.digitizer.frame import colours_of_training, low_resolution  # noqa: E402
from hmr_ros.perception.digitizer.joints import Joints, JOINTS  # noqa: E402
from hmr_ros.perception.digitizer.parts import PATCHES  # noqa: E402
from hmr_ros.perception.digitizer.patches import covered  # noqa: E402
from hmr_ros.training.digitizer_2k2k import losses  # noqa: E402
from hmr_ros.training.digitizer_2k2k.config import (  # noqa: E402
    DigitizerConfig, PHASES, read_config)
from hmr_ros.training.digitizer_2k2k.cutting import cut, enlarged  # noqa: E402
from hmr_ros.training.digitizer_2k2k.data import (  # noqa: E402
    mirrored, small_scans, SmallBatches, training_loader, WholeBatches)
from hmr_ros.training.digitizer_2k2k.guesses import (  # noqa: E402
    small_depth, spoiled_depth, spoiled_normals)
from hmr_ros.training.digitizer_2k2k.losses import Truth  # noqa: E402
from hmr_ros.training.digitizer_2k2k.module import (  # noqa: E402
    DigitizerModule, made_small, normals_of, restarted, soften_heads, window_start)
from hmr_ros.training.digitizer_2k2k.scan_store import ScanStore  # noqa: E402
from hmr_ros.training.digitizer_2k2k.scans import Scan  # noqa: E402
from hmr_ros.training.digitizer_2k2k.studio import darkened, softened_edge, Studio  # noqa: E402
from hmr_ros.training.digitizer_2k2k.torch_networks import networks_of  # noqa: E402
from hmr_ros.training.digitizer_2k2k.train import beginning, train  # noqa: E402
from hmr_ros.training.digitizer_2k2k.weights import read_network  # noqa: E402
from hmr_ros.training.errors import TrainingError  # noqa: E402

pytestmark = pytest.mark.torch
SIDE, WIDTH = 512, 1 / 32


def upright(centre: float) -> np.ndarray:
    """Joints of a standing body whose middle is at column `centre`, the person's left to the right.

    Rows and columns about the centre, for an image of SIDE pixels.
    """
    places = [
        (0, 85), (6, 78), (-6, 78), (16, 82), (-16, 82), (42, 130), (-42, 130), (56, 190),
        (-56, 190), (66, 245), (-66, 245), (22, 250), (-22, 250), (24, 340), (-24, 340),
        (26, 425), (-26, 425), (40, 446), (48, 440), (26, 434), (-40, 446), (-48, 440), (-26, 434),
        *((70 + i, 268) for i in range(4)), *((-70 - i, 268) for i in range(4))]
    return np.float32(places) + np.float32([centre, 0])


def person(seed: int) -> Scan:
    """An ellipsoid that stands for a body, in a colour of its own."""
    rng = np.random.default_rng(seed)
    centre = 256 + rng.uniform(-12, 12)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    inside = 1 - ((columns - centre) / 75) ** 2 - ((rows - 260) / 195) ** 2
    there, bulge = inside > 0, np.sqrt(inside.clip(0))
    image = np.zeros((SIDE, SIDE, 4), np.uint8)
    image[there] = (*rng.integers(60, 255, 3), 255)
    front = np.where(there, 2 - 0.5 * bulge, 6).astype(np.float32)
    back = np.where(there, 2 + 0.5 * bulge, 0).astype(np.float32)
    return Scan(image, front, back, upright(centre), np.zeros((3, 3)), np.zeros((1, 3)), 2.5)


@pytest.fixture(scope='module', autouse=True)
def few_backgrounds() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('hmr_ros.training.digitizer_2k2k.studio._DRAWN', 2)
        yield


@pytest.fixture(scope='module')
def scans() -> list[Scan]:
    return [person(seed) for seed in range(3)]


@pytest.fixture(scope='module')
def config(scans: list[Scan], tmp_path_factory: pytest.TempPathFactory) -> DigitizerConfig:
    path = tmp_path_factory.mktemp('scans') / 'people.npz'
    ScanStore.of_scans(scans, SIDE).save(path)
    return DigitizerConfig((str(path),), phase='low', width=WIDTH, steps=2, learning_rate=1e-3)


@pytest.fixture(scope='module')
def batch(config: DigitizerConfig) -> dict[str, torch.Tensor]:
    return next(iter(WholeBatches(config)))


def alignment_of(scan: Scan) -> Alignment:
    return align(Joints(scan.joints), SIDE)


def test_torch_encodes_normals_as_perception_does(scans: list[Scan]) -> None:
    pair = np.stack([scans[0].front, scans[0].back])
    found = losses.slopes(torch.from_numpy(pair)[None])[0].numpy()
    expected = np.concatenate([normals.encode(side) for side in pair])
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_similarity_is_what_its_definition_says() -> None:
    rng = np.random.default_rng(0)
    found, truth = rng.random((2, 16, 17)).astype(np.float32)
    taps = cv2.getGaussianKernel(5, 1.5, cv2.CV_64F)

    def mean(values: np.ndarray) -> np.ndarray:
        return cv2.sepFilter2D(values.astype(np.float64), -1, taps, taps)[2:-2, 2:-2]
    a, b = mean(found), mean(truth)
    covariance = mean(found * truth) - a * b
    variances = mean(found ** 2) - a ** 2 + mean(truth ** 2) - b ** 2
    expected = np.mean((2 * a * b + 1e-4) * (2 * covariance + 9e-4) / (
        (a ** 2 + b ** 2 + 1e-4) * (variances + 9e-4)))
    maps = [torch.from_numpy(x)[None, None] for x in (found, truth)]
    assert losses.similarity(*maps).item() == pytest.approx(max(expected, 0), abs=1e-5)
    assert losses.similarity(maps[0], maps[0]).item() == pytest.approx(1, abs=1e-5)
    assert losses.similarity(maps[0], 1 - maps[0]).item() == 0


def test_absolute_errors_add_up_over_parts_and_similarity_does_not() -> None:
    truth = torch.rand(1, 6, 16, 16)
    found = truth + 0.1
    one, four = (losses.normal_loss(found.repeat(n, 1, 1, 1), truth.repeat(n, 1, 1, 1), 1)
                 for n in (1, 4))
    # Half of 0.85 times the error, of two sides.
    assert (four - one).item() == pytest.approx(3 * 0.5 * 0.85 * 0.1 * 2, abs=1e-5)
    assert losses.normal_loss(truth, truth, 1).item() == pytest.approx(0, abs=1e-5)


def test_only_what_is_true_has_no_loss(scans: list[Scan]) -> None:
    truth = Truth.of(torch.from_numpy(np.stack([scans[0].front, scans[0].back]))[None])
    sure = 40 * (truth.mask - 0.5)
    perfect = losses.depth_terms(truth.depth, sure, truth, 1.0)
    assert max(value.item() for value in perfect.values()) < 1e-6
    # 0.04 of D on the body alone, both sides.
    off = losses.depth_terms(truth.depth + 0.04 * truth.mask, sure, truth, 1.0)
    assert off['body'].item() == pytest.approx(0.08, rel=1e-4)
    assert 0 < off['depth'] < 0.08 ** 2 and off['mask'] == perfect['mask']
    assert 'body' not in losses.depth_terms(truth.depth, sure, truth, 0.0)


def test_errors_are_told_in_centimetres_of_the_body(scans: list[Scan]) -> None:
    truth = Truth.of(torch.from_numpy(np.stack([scans[0].front, scans[0].back]))[None])
    moved = truth.depth + torch.tensor([0.1, 0.2])[None, :, None, None] * truth.mask
    errors = losses.depth_errors(moved, truth.mask - 0.5, truth, torch.tensor([2.0]))
    # A D is 0.2331539 units, here of two metres.
    assert errors['front_cm'].item() == pytest.approx(0.1 * 23.31539 * 2, rel=1e-4)
    assert errors['back_cm'].item() == pytest.approx(0.2 * 23.31539 * 2, rel=1e-4)
    assert errors['iou'].item() == 1
    assert losses.normal_error(truth.normals, truth.normals).item() == 0


def test_bodies_and_backgrounds_can_weigh_as_they_should(scans: list[Scan]) -> None:
    truth = Truth.of(torch.from_numpy(np.stack([scans[0].front, scans[0].back]))[None])
    behind = truth.depth + 0.5 * (1 - truth.mask)
    whole, none = (losses.depth_terms(behind, truth.mask, truth, 0.0, weight)['depth'].item()
                   for weight in (1.0, 0.0))
    assert whole > 0.1 and none == 0
    found = truth.normals + 0.1 * truth.mask
    plain, weighed = (losses.normal_loss(found, truth.normals, 1, weight).item()
                      for weight in (0.0, 2.0))
    # Half of the weight times the error, of two sides.
    assert weighed - plain == pytest.approx(0.5 * 2 * 2 * 0.1, rel=1e-4)


def test_normals_are_judged_unclipped_and_used_clipped() -> None:
    torch.manual_seed(0)
    network = build_network(Variant(SIDE, WIDTH)).low_normals.eval()
    seen = torch.randn(1, 3, 16, 16)
    with torch.no_grad():
        judged = normals_of(network, seen)
        assert judged.min() < 0 and torch.equal(judged.relu(), network(seen))


def test_softened_heads_begin_inside_all_ranges() -> None:
    torch.manual_seed(0)
    network = build_network(Variant(SIDE, 1 / 8))
    soften_heads(network)
    seen = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        maps, depth = network.low(seen)
    assert (maps > 0).float().mean() > 0.95
    assert ((depth[:, :2] > 0) & (depth[:, :2] < 6)).float().mean() > 0.95


def test_heads_and_features_make_up_each_network() -> None:
    network = build_network(Variant(SIDE, WIDTH)).eval()
    image, maps, pair = (torch.rand(1, count, 32, 32) for count in (3, 6, 2))
    large = torch.rand(1, 6, 256, 256)
    with torch.no_grad():
        for net, inputs in (
                (network.low_depth, (image, maps)), (network.high_depth, (pair, large))):
            assert torch.equal(net(*inputs), depths(net.head(net.features(*inputs))))
        net = network.low_normals
        assert torch.equal(net(image), net.head(net.features(image)).relu())


def test_torch_cuts_the_patches_of_perception(scans: list[Scan]) -> None:
    rng = np.random.default_rng(0)
    planes = rng.random((3, SIDE, SIDE)).astype(np.float32)
    low = rng.random((6, SIDE // 8, SIDE // 8)).astype(np.float32)
    alignment = alignment_of(scans[0])
    expected = patches.cut_patches(planes, low, alignment)
    maps = torch.cat([torch.from_numpy(planes)[None], enlarged(torch.from_numpy(low[None, :3]))], 1)
    found = cut(maps, [alignment])
    assert set(found) == set(PATCHES)
    for name, batch in expected.items():
        np.testing.assert_allclose(found[name].numpy(), batch, atol=1e-3)


def test_small_images_are_those_of_perception() -> None:
    planes = np.random.default_rng(0).random((3, 64, 64)).astype(np.float32)
    np.testing.assert_allclose(
        made_small(torch.from_numpy(planes)[None])[0].numpy(), low_resolution(planes), atol=1e-6)


def test_mirroring_twice_changes_nothing_and_swaps_sides(scans: list[Scan]) -> None:
    scan = scans[0]
    row = {'image': np.random.default_rng(0).random((3, SIDE, SIDE)),
           'depth': np.stack([scan.front, scan.back]), 'joints': scan.joints,
           'found': np.arange(len(JOINTS)) != JOINTS.index('left_wrist')}
    once = mirrored(row)
    assert not once['found'][JOINTS.index('right_wrist')] and once['found'].sum() == 30
    # What is on a joint stays on it.
    for name in ('left_knee', 'right_hip'):
        other = name.replace('left', '*').replace('right', 'left').replace('*', 'right')
        x, y = np.round(scan.joints[JOINTS.index(name)]).astype(int)
        u, v = np.round(once['joints'][JOINTS.index(other)] + 1e-4).astype(int)
        assert abs(once['depth'][0, v, u] - row['depth'][0, y, x]) < 0.05
    for name, value in mirrored(once).items():
        np.testing.assert_allclose(value, row[name], atol=1e-3)
    align(Joints(once['joints']), SIDE)


def test_small_samples_show_small_scans(config: DigitizerConfig, scans: list[Scan]) -> None:
    small = small_scans(config)
    np.testing.assert_allclose(small.depths[1][0], scans[1].front[3::8, 3::8], atol=1e-4)
    cover = small.images[1][..., 3] == 255
    colour = scans[1].image[scans[1].front < 6][:1, :3]
    np.testing.assert_array_equal(np.unique(small.images[1][cover][:, :3], axis=0), colour)
    batch = next(iter(SmallBatches(replace(config, batch=4), small)))
    assert batch['image'].shape == (4, 3, 64, 64) and batch['depth'].shape == (4, 2, 64, 64)
    assert -1 <= batch['image'].min() and batch['image'].max() <= 1


def test_batches_depend_on_their_number_alone(config: DigitizerConfig) -> None:
    small = small_scans(config)
    ahead = list(itertools.islice(SmallBatches(config, small), 3))[2]
    again = next(iter(SmallBatches(config, small, first=2)))
    for name, value in ahead.items():
        assert torch.equal(value, again[name])


def test_whole_samples_agree_with_their_depth(batch: dict[str, torch.Tensor]) -> None:
    assert batch['image'].shape == (2, 3, SIDE, SIDE)
    truth = Truth.of(batch['depth'])
    for points, mask in zip(batch['joints'], truth.mask[:, 0]):
        x, y = points[5:7].mean(0).round().int().tolist()
        assert mask[y, x] == 1
    assert (truth.normals.sum(1) > 0).float().mean() == pytest.approx(
        truth.mask.mean().item(), abs=1e-6)


def test_darkening_is_that_of_digitized_images_in_the_middle() -> None:
    class Middle:
        def uniform(self, low: float, high: float, count: int) -> np.ndarray:
            return np.full(count, (low + high) / 2)
    image = np.random.default_rng(0).integers(0, 256, (9, 9, 3)).astype(np.uint8)
    np.testing.assert_allclose(darkened(image, Middle()), colours_of_training(image), rtol=1e-4)


def test_only_edges_are_softened() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (32, 32, 3)).astype(np.uint8)
    mask = np.zeros((32, 32), bool)
    mask[8:24, 8:24] = True
    changed = (softened_edge(image, mask) != image).any(2)
    assert changed[7:9, 7:25].any() and not changed[10:22, 10:22].any()
    assert not changed[:7].any() and not changed[:, 25:].any()


def test_backgrounds_of_both_sizes_lie_behind_people() -> None:
    studio = Studio(128, 1, None, black=0.0)
    black = np.zeros((128, 128, 4), np.uint8)
    rng = np.random.default_rng(0)
    seen = [studio.picture(black, rng).std() for _ in range(20)]
    small = np.zeros((16, 16, 3), np.uint8)
    seen += [studio.small_picture(small, small[..., 0], rng).std() for _ in range(20)]
    assert np.median(seen) > 0.05
    cut_out = Studio(128, 1, None, black=1.0)
    assert max(cut_out.picture(black, rng).std() for _ in range(5)) < 0.1
    whole = np.full((16, 16, 3), 200, np.uint8)
    # A person that covers everything leaves no background.
    assert studio.small_picture(whole, np.full((16, 16), 255, np.uint8), rng).std() < 0.1


def test_spoiled_truth_is_near_the_truth(scans: list[Scan]) -> None:
    torch.manual_seed(0)
    depth = torch.from_numpy(np.stack([scans[0].front, scans[0].back]))[None]
    truth, alignment = Truth.of(depth), alignment_of(scans[0])
    pair, small = spoiled_depth(depth), small_depth(depth)
    there = small[:, :1] <= small[:, 1:]
    off = (pair - small).abs()[there.expand_as(pair)]
    assert 0.01 < off.mean() < 0.1
    assert torch.equal(pair[~there.expand_as(pair)], small[~there.expand_as(pair)])
    maps = spoiled_normals(truth, [alignment])
    found = torch.from_numpy(covered(alignment))
    error = losses.normal_error(maps, truth.normals * found)
    assert 0.01 < error < 0.2 and not maps[(~found).expand_as(maps)].any()


def test_windows_hold_the_body_at_whole_small_pixels() -> None:
    for left in (0, 100, 231, 470):
        mask = torch.zeros(512, 512)
        mask[100:400, left:left + 40] = 1
        start = window_start(mask, 128)
        assert start % 8 == 0 and 0 <= start <= 512 - 128
        assert start <= left and left + 40 <= start + 128
    assert window_start(torch.zeros(512, 512), 128) == 192


def test_restarts_are_half_as_high() -> None:
    assert restarted(0, 10) == 1 and restarted(10, 10) == 0.5 and restarted(20, 10) == 0.25
    assert restarted(5, 10) == pytest.approx(0.5)
    assert all(restarted(i, 10) > restarted(i + 1, 10) for i in range(9))


def prefixes(changed: set[str]) -> set[str]:
    return {name.partition('.')[0] for name in changed}


@pytest.mark.parametrize('phase, inputs', [
    *((phase, 'truth') for phase in PHASES), ('high', 'network')])
def test_a_phase_changes_its_own_networks_alone(
        config: DigitizerConfig, batch: dict[str, torch.Tensor], phase: str, inputs: str) -> None:
    torch.manual_seed(0)
    config = replace(config, phase=phase, depth_from=inputs, window=256, body_weight=1.0,
                     normals_from=inputs + 's' * (inputs == 'network'))
    module = DigitizerModule(config, beginning(config))
    module.log = module.log_dict = lambda *_, **__: None
    small = next(iter(SmallBatches(config, small_scans(config))))
    before = {name: value.clone() for name, value in module.network.state_dict().items()}
    adam = module.configure_optimizers()['optimizer']
    loss = sum(module._terms(small if phase == 'low' else batch).values())
    loss.backward()
    module.configure_gradient_clipping(adam, 5.0)
    adam.step()
    assert torch.isfinite(loss)
    after = module.network.state_dict()
    assert prefixes({name for name, value in before.items()
                     if not torch.equal(value, after[name])}) == set(PHASES[phase])


def test_the_low_networks_learn_what_they_see_again_and_again(config: DigitizerConfig) -> None:
    torch.manual_seed(0)
    config = replace(config, width=1 / 8, learning_rate=3e-3, body_weight=1.0, black=1.0,
                     background_weight=0.02)
    module = DigitizerModule(config, beginning(config))
    told: list[float] = []
    module.log_dict = lambda values, **_: told.append(float(values['back_cm']))
    module.log = lambda *_, **__: None
    adam = module.configure_optimizers()['optimizer']
    batch = next(iter(SmallBatches(config, small_scans(config))))
    for _ in range(40):
        adam.zero_grad()
        sum(module._terms(batch).values()).backward()
        adam.step()
    assert np.mean(told[-3:]) < 0.6 * np.mean(told[:3]), told


def test_training_goes_on_from_phase_to_phase(config: DigitizerConfig, tmp_path: Path) -> None:
    first = train(config, tmp_path / 'low', workers=0)
    config = replace(config, phase='high', start_from=str(first), depth_from='truth', steps=1,
                     normals_from='truth', window=128, batch=1, schedule='one_cycle')
    network, facts = read_network(train(config, tmp_path / 'high', workers=0))
    assert facts.phase == 2 and facts.width == WIDTH
    low, _ = read_network(first)
    for name, value in low.low_depth.state_dict().items():
        assert torch.equal(value, network.low_depth.state_dict()[name])
    # A phase 1 that follows keeps the second phase's networks, and says so.
    config = replace(config, phase='low', start_from=str(tmp_path / 'high/weights.safetensors'))
    again = train(config, tmp_path / 'again', workers=0)
    assert read_network(again)[1].phase == 2


def test_networks_for_one_person_are_the_same_networks(scans: list[Scan]) -> None:
    network = build_network(Variant(SIDE, WIDTH))
    networks = networks_of(network)
    assert networks.resolution == SIDE and not network.training
    rng = np.random.default_rng(0)
    small = rng.random((3, 64, 64)).astype(np.float32)
    maps, depth = networks.low(small)
    assert maps.shape == (6, 64, 64) and depth.shape == (3, 64, 64)
    alignment = alignment_of(scans[0])
    seen = patches.cut_patches(np.zeros((3, SIDE, SIDE), np.float32), maps, alignment)
    blended = patches.blend(networks.parts(seen), alignment)
    found = networks.refine(depth[:2], blended)
    assert found.shape == (3, SIDE, SIDE) and found.dtype == np.float32
    with torch.no_grad():
        expected = network.low(torch.from_numpy(small)[None])[1][0].numpy()
    np.testing.assert_allclose(depth, expected, atol=1e-5)


@pytest.mark.parametrize('line, told', [
    ('phase: middle', 'phase'), ('window: 12', 'window'), ('width: 0.3', 'width'),
    ('precision: 16-mixed', 'precision'), ('batch: 0', 'batch'), ('speed: 3', 'speed')])
def test_wrong_configurations_are_refused_by_name(tmp_path: Path, line: str, told: str) -> None:
    path = tmp_path / 'train.yaml'
    path.write_text(f'stores: [a.npz]\n{line}\n')
    with pytest.raises(TrainingError, match=told):
        read_config(path)


def test_scans_of_another_size_are_refused(config: DigitizerConfig) -> None:
    for phase in ('low', 'parts'):
        with pytest.raises(TrainingError, match='512 pixels'):
            training_loader(replace(config, resolution=1024, phase=phase), 0)
