# SPDX-License-Identifier: Apache-2.0
"""digitizer_2k2k: a standing person's surface of one image, as depth of its front and its back."""

from hmr_ros.networks.digitizer_2k2k.network import build_network, Digitizer
from hmr_ros.networks.digitizer_2k2k.variants import NARROW, Variant

__all__ = ['build_network', 'Digitizer', 'NARROW', 'Variant']
