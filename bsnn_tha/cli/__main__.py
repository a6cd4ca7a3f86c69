"""``python -m bsnn_tha.cli``, as ``bsnn-tha``."""

from bsnn_tha.cli import main

if __name__ == "__main__":
    main()
