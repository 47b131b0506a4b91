# SPDX-License-Identifier: Apache-2.0
"""The one exception type of this room."""


class TrainingError(RuntimeError):
    """Training cannot go on; the message names the file or value and the remedy."""
