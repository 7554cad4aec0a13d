"""Each stage of a request by itself: `pytest bench/micro --benchmark-json out.json`. BENCH_ITEMS sets the size."""
