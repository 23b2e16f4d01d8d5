"""`python -m proxy` is the command `pgleash`."""

from proxy.cli import main

main()
