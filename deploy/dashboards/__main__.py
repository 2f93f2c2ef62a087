"""Write the dashboards, for Grafana to be provisioned with; into another folder if one is named."""

import json
import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from deploy.dashboards import overview, stages

FOLDER = Path(__file__).parents[1] / "grafana/dashboards"


def write(folder: Path) -> None:
    """Write a file for each dashboard, named as its uid."""
    for board in (overview.dashboard(), stages.dashboard()):
        text = json.dumps(board.build(), cls=JSONEncoder, indent=2, sort_keys=True, ensure_ascii=False)
        (folder / f"{board.build().uid}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
