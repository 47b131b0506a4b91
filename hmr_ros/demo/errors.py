# SPDX-License-Identifier: Apache-2.0
"""The one exception type of this room."""


class DemoError(RuntimeError):
    """The demo cannot go on; the message names the cause and the remedy."""
