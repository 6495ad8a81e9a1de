"""The computations of the Keras model, in NumPy."""
