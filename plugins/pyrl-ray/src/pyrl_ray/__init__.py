"""Seeds of pyrl-sb3 on a Ray cluster; see the README."""
