"""A network as a script in plain Nengo; the script needs nengonet at most to read weights."""

# Images that a script shows by default: Nengo's own simulator takes a second for each.
N_SHOWN = 20
