"""Networks for other tools, as graphs of the Neuromorphic Intermediate Representation (NIR).

`nengonet.nir.export` walks a network, `nengonet.nir.layout` keeps the order of channels, and
`nengonet.nir.parts` writes neurons, weights and filters as NIR expects them.
`nengonet.weights.dialects.nir` reads files; it does not need the package ``nir``.
"""
