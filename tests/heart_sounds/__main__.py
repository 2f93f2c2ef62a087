"""`python -m tests.heart_sounds`: the program, with the lines that the document adds to two of its files."""

import sys

from inference.architectures import ARCHITECTURES, Architecture
from service.cli import COMMANDS, main

assert isinstance(ARCHITECTURES, dict)
ARCHITECTURES["spectrogram-cnn"] = Architecture(
    "tests.heart_sounds.network:SpectrogramCnnArguments", "tests.heart_sounds.network:SpectrogramCnn"
)
COMMANDS["worker heart"] = ("tests.heart_sounds.worker", "read heart sounds, publish a label for each")
COMMANDS["train heart"] = ("tests.heart_sounds.train_command", "fit the model to synthetic heart sounds")

sys.exit(main())
