"""`python -m dgmlab ...` is `dgmlab ...`."""

from dgmlab.cli import main

main()
