# SPDX-License-Identifier: Apache-2.0
"""The one exception type of this room."""


class PerceptionError(ValueError):
    """Input that perception cannot use; the message says what was expected and what to do."""
