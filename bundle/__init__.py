"""The hand-over from training to serving: one immutable folder of arrays with a manifest."""
