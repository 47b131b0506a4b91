# SPDX-License-Identifier: Apache-2.0
"""What an engine must put out before its numbers are read."""

from __future__ import annotations

from typing import Mapping

import numpy as np

from hmr_ros.perception.errors import PerceptionError


def check_shapes(
        outputs: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]],
        network: str) -> None:
    """Raise PerceptionError unless every output of `shapes` is there with that shape per person."""
    for name, shape in shapes.items():
        if name not in outputs:
            raise PerceptionError(
                f'the engine has no output {name!r}; {network} needs '
                f'{", ".join(shapes)}. Choose an engine of this network')
        if outputs[name].shape[1:] != shape:
            raise PerceptionError(
                f'engine output {name!r} has shape {outputs[name].shape}; expected '
                f'(N, {", ".join(map(str, shape))}). Choose an engine of this network')
