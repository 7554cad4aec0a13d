"""The hand-over from training to serving: one immutable folder of arrays with a manifest."""

from bundle.folder import Bundle, manifest_of, open_bundle, remove, write
from bundle.manifest import BundleError, Manifest

__all__ = ["Bundle", "BundleError", "Manifest", "manifest_of", "open_bundle", "remove", "write"]
