"""`python -m aai_models.study make|figures|page|collect|size ...`."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
