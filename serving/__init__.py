"""Answers what to show to whom."""

import runtime.kernel_cache  # noqa: F401  # before the first kernel: it says where numba keeps them
