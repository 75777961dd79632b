"""All tests. A real package, because a distribution installed beside us claims the name too."""
