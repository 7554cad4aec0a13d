"""What the engine is compared with: the stack that a team would otherwise write, and hnswlib alone."""
