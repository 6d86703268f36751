"""A process that supervises stand-in engines, as a server does, until its standard input ends.

python -m tests.jobs.supervising DATA
"""

import sys
from pathlib import Path

from infinitetalk.config import Settings
from infinitetalk.jobs.duty import Duty
from infinitetalk.jobs.host import LocalHost, supervisor_lock
from infinitetalk.jobs.supervisor import Command, Supervisor

ROOT = Path(__file__).parents[2]


def stand_in_command(data: Path) -> Command:
    """How stand-in engines are started."""
    settings = (f"INFINITETALK_DATA={data}", "INFINITETALK_DEVICE=cpu", f"PYTHONPATH={ROOT}")
    engine = (sys.executable, "-m", "tests.jobs.stand_in", "--preset", "tiny")
    return lambda slot: ["env", *settings, *engine, "--slot", slot]


def main(data: Path) -> None:
    settings = Settings(data=data)
    supervisor = Supervisor(LocalHost.open(settings), settings, stand_in_command(data))
    lock = supervisor_lock(data)
    duty = Duty("engines", lock, supervisor.tick, period_s=0.05, at_end=supervisor.close)
    duty.start()
    sys.stdin.read()
    duty.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
