"""The three places that events go to, one file each."""
