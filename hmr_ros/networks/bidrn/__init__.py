# SPDX-License-Identifier: Apache-2.0
"""bidrn: the whole body, hands and face included, with weights and activations of one bit."""

from hmr_ros.networks.bidrn.network import build_network, WholeBody
from hmr_ros.networks.bidrn.variants import compact, HAND4WHOLE, NAMED, Variant

__all__ = ['build_network', 'compact', 'HAND4WHOLE', 'NAMED', 'Variant', 'WholeBody']
