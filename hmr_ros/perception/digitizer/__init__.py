# SPDX-License-Identifier: Apache-2.0
"""What the digitizer does around its networks: frames, body parts, depth, meshes."""
