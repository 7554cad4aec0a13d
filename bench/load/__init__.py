"""Load from outside: an open loop by the clock, closed loops, paired comparisons, and h2load as a second opinion."""
