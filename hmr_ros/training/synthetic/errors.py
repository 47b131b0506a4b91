# SPDX-License-Identifier: Apache-2.0
"""The one exception type of this room."""


class SyntheticError(ValueError):
    """A store, a folder or a parameter is unusable; the message says what and what to do."""
