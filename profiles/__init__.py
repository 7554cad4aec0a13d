"""What is kept of a user: a bounded ring of recent events and the set of seen items, packed into at most 1 KiB."""

import runtime.kernel_cache  # noqa: F401  # before the first kernel: it says where numba keeps them
