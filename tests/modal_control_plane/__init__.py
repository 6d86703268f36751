"""A stand-in for Modal: `plane.ControlPlane`, or the fixture `fixtures.control_plane`."""
