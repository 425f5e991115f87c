"""``python -m vreid_cli``: the same program as the console script ``vreid``."""

from vreid_cli.cli.app import main

if __name__ == "__main__":
    main()
