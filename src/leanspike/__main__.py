"""``python -m leanspike``, and with it ``torchrun -m leanspike``."""

from leanspike.cli import main

if __name__ == "__main__":
    main()
