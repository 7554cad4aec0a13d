"""The version of the distribution; images and releases overwrite it from $VERSION."""

__version__ = "0.1.0"
