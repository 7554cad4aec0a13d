"""The lake over a folder and over a real S3-compatible server alike."""
