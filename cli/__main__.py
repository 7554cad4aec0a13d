"""`python -m cli` is `reco`."""

from cli.main import main

main()
