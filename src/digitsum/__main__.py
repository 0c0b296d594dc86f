"""`python -m digitsum` is `digitsum`."""

from digitsum.cli import main

main()
