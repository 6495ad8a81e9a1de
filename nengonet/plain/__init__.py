"""A network as a script in plain Nengo, which needs nengonet at most to read weights."""
