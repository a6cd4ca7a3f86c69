"""``python -m bsnn_tha`` is ``bsnn-tha``."""

from bsnn_tha.cli import main

if __name__ == "__main__":
    main()
