"""`python -m s2s_cli` is the command `s2s`."""

from s2s_cli.cli.main import main

if __name__ == "__main__":
    main()
