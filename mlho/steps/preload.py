"""What the server of worker processes imports before it forks: all that most steps need, and nothing is run."""

import mlho.encoding.blocks
import mlho.encoding.partition
import mlho.training.final
import mlho.training.summary  # noqa: F401 - importing is the purpose
