"""The hand-over from training to serving: one immutable folder of arrays with a manifest."""

from bundle.folder import Bundle, open_bundle, write
from bundle.manifest import BundleError, Manifest

__all__ = ["Bundle", "BundleError", "Manifest", "open_bundle", "write"]
