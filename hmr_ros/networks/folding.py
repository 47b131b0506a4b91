# SPDX-License-Identifier: Apache-2.0
"""Batch norms of trained networks, put into the convolutions before them."""

from __future__ import annotations

from typing import Iterator

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

#: how the networks of this package name a convolution and the norm behind it.
_PAIRS = (('conv1', 'bn1'), ('conv2', 'bn2'), ('conv3', 'bn3'), ('conv', 'bn'), ('0', '1'),
          ('1', '2'), ('3', '4'), ('6', '7'))


def convolutions_before_norms(network: nn.Module) -> Iterator[tuple[nn.Module, str, str]]:
    """Yield every convolution and the norm behind it: the module of both, and their names."""
    for module in list(network.modules()):
        for conv, norm in _PAIRS:
            if isinstance(getattr(module, norm, None), nn.BatchNorm2d) and isinstance(
                    getattr(module, conv, None), (nn.Conv2d, nn.ConvTranspose2d)):
                yield module, conv, norm


def fold_norms(network: nn.Module) -> None:
    """Put the norms of a network in evaluation mode into its convolutions, in place."""
    network.to(memory_format=torch.contiguous_format)
    for module, conv, norm in convolutions_before_norms(network):
        convolution = module.get_submodule(conv)
        setattr(module, conv, fuse_conv_bn_eval(
            convolution, module.get_submodule(norm), isinstance(convolution, nn.ConvTranspose2d)))
        setattr(module, norm, nn.Identity())
