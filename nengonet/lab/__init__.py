"""The lab: a page with a knob for every number of a network."""
