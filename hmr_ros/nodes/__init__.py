# SPDX-License-Identifier: Apache-2.0
"""ROS 2 nodes: parameters, topics, lifecycle and diagnostics around `perception`."""

import os as _os

# Before numpy loads: the live path multiplies small matrices, and waking a second BLAS thread for
# each of them costs many times what it saves (skinning five people: 1 ms alone, 50 ms on a busy
# machine with two threads).
_os.environ.setdefault('OPENBLAS_NUM_THREADS', '1')
_os.environ.setdefault('OMP_NUM_THREADS', '1')
