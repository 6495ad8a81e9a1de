"""What the Keras model computes, in NumPy."""
