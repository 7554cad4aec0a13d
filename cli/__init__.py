"""The command line, `reco`."""
