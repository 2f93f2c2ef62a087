"""``python -m service`` is ``stridecast``."""

import sys

from service.cli import main

sys.exit(main())
