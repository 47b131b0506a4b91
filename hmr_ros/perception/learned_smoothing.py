# SPDX-License-Identifier: Apache-2.0
"""Bodies steady over time by a recurrent network that was trained on an engine's features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from hmr_ros.body.model import BodyModel
from hmr_ros.perception import rotations
from hmr_ros.perception.errors import PerceptionError
from hmr_ros.perception.person import Person
from hmr_ros.perception.smoothing import BodySmoother, SmoothingSettings, Step


class TensorFacts(Protocol):
    """Name and shape of an engine's input or output; -1 where the batch size goes."""

    name: str
    shape: tuple[int, ...]


class TemporalNetwork(Protocol):
    """What smoothing asks of an engine."""

    name: str
    inputs: Sequence[TensorFacts]
    outputs: Sequence[TensorFacts]

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run one batch."""
        ...


def _pose6d(people: Sequence[Person]) -> np.ndarray:
    matrices = rotations.axis_angle_to_matrix(np.stack([person.pose for person in people]))
    return rotations.matrix_to_6d(matrices).reshape(len(people), 144)


# How the people of a batch become an input; h_in comes from the tracks.
_FEEDS = {
    'feature': lambda people: np.stack([person.feature for person in people]),
    'pose6d_in': _pose6d,
    'betas_in': lambda people: np.stack([person.betas for person in people]),
}


class LearnedSmoother(BodySmoother[np.ndarray]):
    """
    Runs a recurrent network, one step a frame (rsc_net sheet, sections 1.1 and 2.4).

    All tracks of a frame are one batch. The network is fed what it has inputs for: `feature`
    (N, F), `pose6d_in` (N, 144), `betas_in` (N, 10), and its state `h_in` (L, N, H), zeros where a
    track starts. Its outputs `pose6d`, `betas` and `h_out` are used. The memory of a track is its
    state `(L, H)`.
    """

    def __init__(
            self, engine: TemporalNetwork, body: BodyModel,
            settings: SmoothingSettings = SmoothingSettings()) -> None:
        """Raises PerceptionError when the engine has other tensors than a temporal network."""
        super().__init__(body, settings)
        self.engine_name = engine.name
        self._engine = engine
        self._inputs = {spec.name: tuple(spec.shape) for spec in engine.inputs}
        _check_tensors(engine.name, self._inputs,
                       {spec.name: tuple(spec.shape) for spec in engine.outputs})
        self._feature_size = self._inputs.get('feature', (-1, None))[1]
        layers, _, width = self._inputs['h_in']
        self._fresh = np.zeros((layers, width), np.float32)

    def _fits(self, person: Person) -> bool:
        return self._feature_size is None or (
            len(person.feature) == self._feature_size and bool(np.isfinite(person.feature).all()))

    def _advance(
            self, steps: Sequence[Step[np.ndarray]]
            ) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        people = [step.person for step in steps]
        feeds = {name: _FEEDS[name](people) for name in self._inputs if name != 'h_in'}
        feeds['h_in'] = np.stack([
            self._fresh if step.memory is None else step.memory for step in steps], axis=1)
        outputs = self._engine.run(feeds)
        # Copies: a view would keep the whole batch alive for as long as one of its tracks.
        states = [outputs['h_out'][:, i].copy() for i in range(len(people))]
        good = np.array([np.isfinite(state).all() for state in states])
        numbers = outputs['pose6d'].reshape(len(people), 24, 6).astype(np.float64)
        pose = rotations.matrix_to_axis_angle(rotations.matrix_from_6d(numbers))
        pose[~good] = np.nan
        return list(zip(pose.astype(np.float32), outputs['betas'].astype(np.float32), states))


def _check_tensors(
        name: str, inputs: Mapping[str, tuple[int, ...]],
        outputs: Mapping[str, tuple[int, ...]]) -> None:
    known = {*_FEEDS, 'h_in'}
    state = inputs.get('h_in', ())
    if set(inputs) - known or len(state) != 3 or state[1] != -1:
        raise PerceptionError(
            f'engine {name!r} has the inputs {dict(inputs)}; a temporal engine takes h_in '
            '(layers, -1, width) and any of feature, pose6d_in, betas_in. Choose a temporal engine')
    wanted = {'pose6d': (-1, 144), 'betas': (-1, 10), 'h_out': state}
    for output, shape in wanted.items():
        if outputs.get(output) != shape:
            raise PerceptionError(
                f'engine {name!r} has the output {output} {outputs.get(output)}; a temporal '
                f'engine gives {shape}. Choose a temporal engine')
