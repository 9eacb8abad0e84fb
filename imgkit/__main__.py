"""`python -m imgkit` is `imgkit`."""

from imgkit.cli.app import main

if __name__ == "__main__":
    main()
