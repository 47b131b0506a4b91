# SPDX-License-Identifier: Apache-2.0
"""The one exception type of this room."""


class NodeError(RuntimeError):
    """A message or parameter cannot be used; names it, what was expected and what to do."""
