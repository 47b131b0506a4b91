# SPDX-License-Identifier: Apache-2.0
"""The texture network against the sheet, checks 1 and 13, and its engine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='networks need torch')
from hmr_ros.networks.rsc_net.texture import (  # noqa: E402
    BASELINE, RscTexture, TextureVariant)

pytestmark = pytest.mark.torch


@pytest.fixture(scope='module')
def network() -> RscTexture:
    torch.manual_seed(0)
    return RscTexture().eval()


@pytest.fixture(scope='module')
def image() -> torch.Tensor:
    return torch.rand(1, 3, 128, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize('variant, parameters, macs', [
    (BASELINE, 13_395_459, 3_866_099_712),
    (TextureVariant('none'), 13_469_571, 6_286_737_408),
    (TextureVariant(), 18_257_347, 6_293_553_152)])
def test_sizes_of_the_sheet(variant: TextureVariant, parameters: int, macs: int) -> None:
    """Check 1 and section 8."""
    from torch.utils.flop_counter import FlopCounterMode
    with torch.device('meta'):
        network, image = RscTexture(variant).eval(), torch.zeros(1, 3, 128, 64)
    counter = FlopCounterMode(display=False)
    with counter:
        assert network(image).shape == (1, 3, 128, 128)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    assert counter.get_total_flops() == 2 * macs


def test_context_starts_as_identity(network: RscTexture, image: torch.Tensor) -> None:
    """Check 13: with a zero last convolution it is the network without context."""
    without = RscTexture(TextureVariant('none')).eval()
    state = {name: value for name, value in network.state_dict().items()
             if not name.startswith('context.')}
    without.load_state_dict(state)
    with torch.no_grad():
        texture = network(image)
        torch.testing.assert_close(texture, without(image), atol=0, rtol=0)
    assert texture.abs().max() <= 1


def test_context_lets_a_texel_see_the_whole_picture(image: torch.Tensor) -> None:
    """
    Check 13: with context a corner reaches all of the picture.

    Without, its receptive field, counted layer by layer, is the upper 110 of 128 rows; section 8
    measured 74 %.
    """
    torch.manual_seed(2)
    reached = {}
    for variant in (BASELINE, TextureVariant('sum'), TextureVariant('concatenation')):
        network = RscTexture(variant).eval()
        if network.context is not None:
            torch.nn.init.normal_(network.context.expand.weight, std=0.1)
        given = image.clone().requires_grad_()
        network(given)[0, :, 0, 0].sum().backward()
        reached[variant.global_context] = (given.grad.abs().sum(1) > 0).float().mean().item()
    assert reached['none'] == 110 / 128
    assert reached['sum'] > 0.99 and reached['concatenation'] > 0.99


def test_other_contexts_are_refused() -> None:
    with pytest.raises(ValueError, match="'product'; allowed: none, sum, concatenation"):
        TextureVariant('product')


def test_onnx_equals_torch(network: RscTexture, tmp_path: Path) -> None:
    """Section 7, with a context that speaks; no node asks for the batch."""
    import onnx
    import onnxruntime
    from hmr_ros.training.rsc_net.export import export_rsc_texture
    torch.nn.init.normal_(network.context.expand.weight, std=0.1)
    path = export_rsc_texture(network, tmp_path / 'texture.onnx', 'float32')
    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    for count in (1, 3):
        image = torch.rand(count, 3, 128, 64) * 2 - 1
        with torch.no_grad():
            expected = network(image).numpy()
        (texture,) = session.run(['uv'], {'image': image.numpy()})
        assert np.abs(texture - expected).max() < 1e-5
    kinds = {node.op_type for node in onnx.load(path).graph.node}
    assert not kinds & {'If', 'Loop', 'Where', 'Expand', 'Pad', 'BatchNormalization'}
