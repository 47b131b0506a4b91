# SPDX-License-Identifier: Apache-2.0
"""What makes binary networks into engines."""
