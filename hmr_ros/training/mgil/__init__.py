# SPDX-License-Identifier: Apache-2.0
"""Training of mgil: targets, losses, import of checkpoints, export."""
