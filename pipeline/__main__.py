"""`python -m pipeline VERB …`: the same as the installed command."""

import sys

from pipeline.command import main

sys.exit(main())
