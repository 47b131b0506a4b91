# SPDX-License-Identifier: Apache-2.0
"""The one exception type of this room."""


class EvaluationError(RuntimeError):
    """An evaluation cannot be made; the message names the file or array and the remedy."""
