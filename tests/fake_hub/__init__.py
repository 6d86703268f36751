"""A hub of our own: a folder with the layout of the real one, and a server on loopback.

    catalog = build(folder)
    with FakeHub(folder, Fault("Wan2.1_VAE.pth", cut_after=1000)) as hub:
        ...                             # hub.endpoint, hub.asked, hub.served()

`python -m tests.fake_hub --folder F` serves one by hand.
"""

from tests.fake_hub.faces import SIGNATURE
from tests.fake_hub.folder import CATALOG_FILE, build, build_hollow
from tests.fake_hub.server import FakeHub
from tests.fake_hub.traffic import Fault

__all__ = ["CATALOG_FILE", "SIGNATURE", "FakeHub", "Fault", "build", "build_hollow"]
