"""``python -m codistill``: the command line, for launchers that start modules."""

from codistill.cli.main import main

if __name__ == "__main__":
    main()
