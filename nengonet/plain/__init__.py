"""A network as a script in plain Nengo; the script needs nengonet at most to read weights."""
