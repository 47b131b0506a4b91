# SPDX-License-Identifier: Apache-2.0
"""Training of mgil's person detector: scenes, targets, losses, export."""
