"""``python -m pixbox``."""

from pixbox.cli import main

main()
