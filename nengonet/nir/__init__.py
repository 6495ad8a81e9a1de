"""Networks for other tools, as graphs of the Neuromorphic Intermediate Representation (NIR).

`nengonet.nir.export` walks a network, `nengonet.nir.layout` keeps the order of channels, and
`nengonet.nir.parts` writes neurons, weights and filters as NIR has them. Files are read by
`nengonet.weights.dialects.nir`, which needs no package ``nir``.
"""
