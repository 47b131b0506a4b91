# SPDX-License-Identifier: Apache-2.0
"""A few steps of training of the person detector, and the engine that comes of it."""

from __future__ import annotations

from dataclasses import replace
import math
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='training needs torch')
pytest.importorskip('lightning', reason='training needs lightning')
from typer.testing import CliRunner  # noqa: E402

from hmr_ros import cli  # noqa: E402
from hmr_ros.body import load_body  # noqa: E402
from hmr_ros.networks.mgil import NAMED  # noqa: E402
from hmr_ros.networks.mgil.deploy import fold_blocks, unfolded_state  # noqa: E402
from hmr_ros.networks.mgil.detector import (  # noqa: E402
    build_detector, decode, DetectorVariant, STRIDES)
from hmr_ros.perception.detection import overlaps  # noqa: E402
from hmr_ros.runtime import load_engine  # noqa: E402
from hmr_ros.runtime.manifest import read_manifest  # noqa: E402
from hmr_ros.training.errors import TrainingError  # noqa: E402
from hmr_ros.training.mgil.detector.config import DetectorConfig, read_config  # noqa: E402
from hmr_ros.training.mgil.detector.data import collate  # noqa: E402
from hmr_ros.training.mgil.detector.export import export_engine  # noqa: E402
from hmr_ros.training.mgil.detector.module import DetectorModule  # noqa: E402
from hmr_ros.training.mgil.detector.scenes import Scene  # noqa: E402
from hmr_ros.training.mgil.detector.train import train  # noqa: E402
from hmr_ros.training.mgil.detector.weights import (  # noqa: E402
    DetectorFacts, read_network, save_weights)
from hmr_ros.training.synthetic import render_cutouts  # noqa: E402

pytestmark = pytest.mark.torch
NARROW = DetectorVariant(0.25, NAMED['strided'])


@pytest.fixture(scope='module')
def config(tmp_path_factory: pytest.TempPathFactory) -> DetectorConfig:
    folder = tmp_path_factory.mktemp('stores')
    render_cutouts(load_body(), 4, seed=4, size=96).save(folder / 'people.npz')
    return DetectorConfig(
        (str(folder / 'people.npz'),), width=0.25, downsampling='flie', size=64, batch=2, steps=4,
        scenes=3, backgrounds=2, scene_size=96, smallest=16, largest=60,
        keep=str(folder / 'scenes.npz'))


def test_two_scenes_are_learnt_by_heart() -> None:
    torch.manual_seed(0)
    rng, cuts = np.random.default_rng(0), []
    for box in ((20, 12, 36, 60), (50, 30, 66, 80)):
        image = rng.integers(0, 90, (96, 96, 3), np.uint8)
        image[box[1]:box[3], box[0]:box[2]] += 140
        cuts.append(Scene(image, np.float32([box]), np.zeros(1, bool)))
    batch = collate(cuts)
    module = DetectorModule(DetectorConfig(('',), steps=80, learning_rate=1e-2),
                            build_detector(NARROW))
    module.log_dict = lambda *args, **kwargs: None
    found = module.configure_optimizers()
    for _ in range(80):
        found['optimizer'].zero_grad()
        module.training_step(batch, 0).backward()
        found['optimizer'].step()
        found['lr_scheduler']['scheduler'].step()
    with torch.no_grad():
        boxes, scores = decode(module.network(batch['images'].float() / 255))
    for cut, found_boxes, found_scores in zip(cuts, boxes.numpy(), scores[..., 0].numpy()):
        agree = overlaps(found_boxes, cut.boxes)[:, 0]
        assert found_scores.max() > 0.5 and agree[found_scores.argmax()] > 0.7
        assert found_scores[agree < 0.1].max() < 0.3


def test_an_untrained_detector_sees_next_to_nothing() -> None:
    """About eight objects in a picture of 640 pixels, by the sum of all scores."""
    torch.manual_seed(0)
    with torch.no_grad():
        boxes, scores = decode(build_detector(NARROW).eval()(torch.zeros(1, 3, 256, 256)))
    # Eight per level and anchor.
    expected = sum(3 * 8 * (256 / 640) ** 2 for _ in STRIDES)
    assert scores.sum().item() == pytest.approx(expected, rel=0.5)


def test_widths_are_those_of_the_sheet_times_a_factor() -> None:
    assert build_detector(DetectorVariant()).outputs[2].in_channels == 256
    assert DetectorVariant(0.5).stages == (8, 16, 32, 64, 128)
    for width in (0.1, 0.0, -0.5):
        with pytest.raises(ValueError, match='multiple of 0.25'):
            DetectorVariant(width)


def test_folded_blocks_train_like_plain_ones() -> None:
    torch.manual_seed(0)
    variant = DetectorVariant(0.25, NAMED['flie'])
    plain, folded = build_detector(variant).double(), build_detector(variant).double()
    folded.load_state_dict(plain.state_dict())
    fold_blocks(folded)
    fold_blocks(folded)
    image = torch.rand(2, 3, 64, 64, dtype=torch.float64)
    for network in (plain, folded):
        sgd = torch.optim.SGD(network.parameters(), 0.01)
        sum(raw.square().mean() for raw in network(image)).backward()
        sgd.step()
    state = unfolded_state(folded)
    assert state.keys() == plain.state_dict().keys()
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(state[name], value)


def test_a_resumed_run_ends_as_an_uninterrupted_one(
        config: DetectorConfig, tmp_path: Path) -> None:
    config = replace(config, checkpoint_every=2)
    whole, _ = read_network(train(config, tmp_path / 'whole', workers=0))

    class Stop(RuntimeError):
        pass

    def stop(module: DetectorModule, batch: object, index: int) -> None:
        if module.global_step == 3:
            raise Stop

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DetectorModule, 'on_train_batch_start', stop, raising=False)
        with pytest.raises(Stop):
            train(config, tmp_path / 'half', workers=0)
    resumed, _ = read_network(train(
        config, tmp_path / 'half', workers=0, resume=str(tmp_path / 'half' / 'last.ckpt')))
    for (name, one), other in zip(whole.state_dict().items(), resumed.state_dict().values()):
        assert torch.equal(one, other), name


def test_weights_remember_their_network(tmp_path: Path) -> None:
    network = build_detector(DetectorVariant(0.25, NAMED['spd']))
    read, facts = read_network(save_weights(network, tmp_path / 'w.safetensors'))
    assert facts.variant == network.variant and facts.network == 'mgil_detector'
    for (name, one), other in zip(network.state_dict().items(), read.state_dict().values()):
        assert torch.equal(one, other), name


@pytest.mark.parametrize('kind', ['strided', 'mgil'])
def test_engines_equal_torch(settled, kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = settled(build_detector(DetectorVariant(0.25, NAMED[kind])))
    entry = export_engine(
        network, None, tmp_path, 'mine', 'float32', DetectorFacts(height=96, width=128))
    assert read_manifest(tmp_path)['mine'] == entry
    assert (entry.network, entry.image_size) == ('mgil_detector', 128)
    assert entry.inputs == {'image': (-1, 3, 96, 128)}
    assert entry.outputs == {'boxes': (-1, 756, 4), 'scores': (-1, 756, 1)}
    assert (entry.mean, entry.std) == ((0, 0, 0), (1, 1, 1))
    engine = load_engine(str(tmp_path / 'mine.onnx'))
    for count in (1, 3):
        image = torch.rand(count, 3, 96, 128)
        with torch.no_grad():
            boxes, scores = decode(network(image))
        found = engine.run({'image': image.numpy()})
        np.testing.assert_allclose(found['boxes'], boxes, atol=1e-2)
        np.testing.assert_allclose(found['scores'], scores, atol=1e-4)
        assert scores.std() > 1e-3


def test_sizes_that_cannot_be_halved_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match='500x384'):
        export_engine(build_detector(NARROW), None, tmp_path, 'mine', 'float32',
                      DetectorFacts(width=500))


def test_the_program_trains_and_exports(config: DetectorConfig, tmp_path: Path) -> None:
    stage = tmp_path / 'stage.yaml'
    values = {name: getattr(config, name) for name in (
        'width', 'downsampling', 'size', 'batch', 'backgrounds', 'scenes', 'scene_size',
        'smallest', 'largest', 'keep')}
    stage.write_text('\n'.join([f'stores: [{config.stores[0]}]', 'steps: 1', *(
        f'{name}: {value}' for name, value in values.items())]))
    assert read_config(stage) == replace(config, steps=1)

    def run(*words: str) -> None:
        result = CliRunner().invoke(cli.app, words, catch_exceptions=False)
        assert result.exit_code == 0, result.output

    run('train', 'mgil_detector', str(stage), '--out', str(tmp_path), '--workers', '0')
    run('export', 'mgil_detector', str(tmp_path / 'weights.safetensors'), '--folder',
        str(tmp_path), '--height', '64', '--width', '96')
    entry = read_manifest(tmp_path)['mgil_detector']
    assert entry.inputs['image'] == (-1, 3, 64, 96) and entry.weights == 'float16'
    again = tmp_path / 'again.yaml'
    again.write_text(stage.read_text() + f'\nstart_from: {tmp_path}/weights.safetensors\n'
                     'learning_rate: 1.0e-9\n')
    run('train', 'mgil_detector', str(again), '--out', str(tmp_path / 'b'), '--workers', '0')
    one, other = (read_network(folder / 'weights.safetensors')[0].outputs[0].weight
                  for folder in (tmp_path, tmp_path / 'b'))
    torch.testing.assert_close(one, other)


def test_the_program_knows_the_size(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli.app, ['info', 'mgil_detector'], catch_exceptions=False)
    assert '7.383' in result.output and '9.024' in result.output
    result = CliRunner().invoke(cli.app, ['info', 'mgil_detector', '--width', '0.3'])
    assert isinstance(result.exception, cli.CommandError)


def test_norms_and_biases_do_not_decay(config: DetectorConfig) -> None:
    found = DetectorModule(config, build_detector(NARROW)).configure_optimizers()
    kernels, others = found['optimizer'].param_groups
    assert kernels['weight_decay'] == config.weight_decay and others['weight_decay'] == 0
    assert all(p.ndim == 1 for p in others['params'])
    total = sum(p.numel() for group in (kernels, others) for p in group['params'])
    assert total == sum(p.numel() for p in build_detector(NARROW).parameters())
    assert math.isclose(found['lr_scheduler']['scheduler'].total_steps, config.steps)


@pytest.mark.parametrize('text, named', [
    ('stores: [a]\ndownsampling: x', "downsampling .* 'x'"),
    ('stores: [a]\nbatch: 1', 'batch .* 1'), ('stores: [a]\nsize: 40', 'size .* 40'),
    ('stores: [a]\nwidth: 0.3', 'width of the detector is 0.3'),
    ('stores: [a]\nlargest: 10', 'largest .* 10'), ('stores: [a]\nzoom: 0.5', 'zoom .* 0.5'),
    ('stores: [a]\nrate: 3', 'rate'), ('size: 64', 'must name stores')])
def test_bad_configuration_is_named(text: str, named: str, tmp_path: Path) -> None:
    path = tmp_path / 'stage.yaml'
    path.write_text(text)
    with pytest.raises(TrainingError, match=named):
        read_config(path)
