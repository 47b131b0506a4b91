# SPDX-License-Identifier: Apache-2.0
"""rsc_net: one body from crops of 224 to 24 pixels, and the GRU that smooths it (Xu et al.)."""

from hmr_ros.networks.rsc_net.body_filter import BodyFilter
from hmr_ros.networks.rsc_net.network import ContrastiveHead, RscNet
from hmr_ros.networks.rsc_net.prediction import Body, Prediction
from hmr_ros.networks.rsc_net.temporal import RscTemporal
from hmr_ros.networks.rsc_net.texture import RscTexture, TextureVariant

__all__ = [
    'Body', 'BodyFilter', 'ContrastiveHead', 'Prediction', 'RscNet', 'RscTemporal', 'RscTexture',
    'TextureVariant']
