"""Where it runs: the container's lifecycle, the wire to it, and the files that go in and come out."""
