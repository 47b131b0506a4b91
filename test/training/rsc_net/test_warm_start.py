# SPDX-License-Identifier: Apache-2.0
"""A compact rsc_net begins as the backbone of the shipped engine, norms and all."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='training needs torch')
from hmr_ros.body import load_body  # noqa: E402
from hmr_ros.networks.rsc_net import RscNet  # noqa: E402
from hmr_ros.runtime import load_engine  # noqa: E402
from hmr_ros.training.errors import TrainingError  # noqa: E402
from hmr_ros.training.rsc_net.config import RscConfig  # noqa: E402
from hmr_ros.training.rsc_net.data import Resolutions  # noqa: E402
from hmr_ros.training.rsc_net.train import begin_as_engine  # noqa: E402
from hmr_ros.training.synthetic import render_cutouts  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Resolutions:
    path = tmp_path_factory.mktemp('stores') / 'people.npz'
    render_cutouts(load_body(), 12, seed=4, size=96).save(path)
    return Resolutions(RscConfig((str(path),), method='plain', backbone='compact'))


def test_begins_as_the_engine(data: Resolutions) -> None:
    backbone = RscNet(backbone='compact').backbone
    begin_as_engine(backbone, 'keypoint_guided', data)
    image = torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    outputs = load_engine('keypoint_guided').run({'image': image.numpy()})
    with torch.no_grad():
        feature = backbone.eval()(image, torch.zeros(2, dtype=torch.long)).numpy()
    # The engine's feature begins with the same means; its keypoints were moved a little since.
    np.testing.assert_allclose(feature[:, :384], outputs['feature'][:, :384], atol=1e-4)
    moved = outputs['uvd'].reshape(2, -1) - feature[:, 384:] / backbone.POSITION_GAIN
    assert np.abs(moved).mean() < 0.02


def test_norms_work_on_the_statistics_of_the_crops(data: Resolutions) -> None:
    """Training, which norms by the batch, and evaluation see nearly the same network."""
    backbone = RscNet(backbone='compact').backbone
    begin_as_engine(backbone, 'keypoint_guided', data)
    images = torch.cat([batch['images'][0] for batch, _ in zip(data, range(6))])
    image = (images / 255 - 0.45) / 0.225
    row = torch.zeros(len(image), dtype=torch.long)
    with torch.no_grad():
        by_batch, kept = backbone.train()(image, row), backbone.eval()(image, row)
    assert (by_batch - kept).abs().mean() < 0.1 * kept.std()


def test_another_engine_is_refused(data: Resolutions) -> None:
    with pytest.raises(TrainingError, match="'keypoint_guided_mgfenet' has no convolution"):
        begin_as_engine(RscNet(backbone='compact').backbone, 'keypoint_guided_mgfenet', data)
