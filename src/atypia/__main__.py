"""``python -m atypia``: the command line, as ``atypia``."""

from atypia.cli.main import main

if __name__ == "__main__":
    main()
