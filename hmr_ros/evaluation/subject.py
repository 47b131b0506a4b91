# SPDX-License-Identifier: Apache-2.0
"""What is judged: an engine with the body and settings that belong to it."""

from __future__ import annotations

from dataclasses import dataclass

from hmr_ros.body.model import BodyModel
from hmr_ros.perception.mesh_recovery import RecoverySettings, settings_for
from hmr_ros.runtime import Engine

#: vertical field of view that is assumed for pictures of unknown cameras.
ASSUMED_FOV_DEG = 45.0


@dataclass(frozen=True)
class Subject:
    """What is judged: an engine, the body it was trained for, and its settings."""

    engine: Engine
    body: BodyModel
    settings: RecoverySettings

    @classmethod
    def of(cls, engine: Engine, body: BodyModel) -> Subject:
        """Take the settings from the engine's manifest entry."""
        return cls(engine, body, settings_for(getattr(engine, 'entry', None), body))
