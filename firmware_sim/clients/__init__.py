"""A device's ways to speak on a wire: client (what all can do), and a machine for each."""
