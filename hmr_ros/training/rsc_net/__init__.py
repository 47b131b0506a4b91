# SPDX-License-Identifier: Apache-2.0
"""rsc_net and rsc_temporal: weights files, checkpoints of other programs, export."""
