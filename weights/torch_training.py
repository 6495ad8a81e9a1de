"""The training loop of most networks here: Keras' weights, PyTorch's operations.

`keras.Model.fit` takes about twice as long for the same networks.
"""

import keras
import numpy as np
import torch
import torch.nn.functional as F

BATCH = 64


def fit(
    model,
    forward,
    images,
    labels,
    *,
    epochs,
    rate,
    seed,
    augment=None,
    loss=F.cross_entropy,
    batch=BATCH,
    constant=0,
    last_batch=False,
    epsilon=1e-8,
):
    """Train the weights of a Keras model in place, with Adam and cosine decay to zero.

    Parameters
    ----------
    model : keras.Model
        On the backend torch.
    forward : callable
        ``forward(weights, x)`` gives the logits for images ``(n, channels, height, width)``; what
        matters in training only, such as dropout, is here and not in the model.
    images : (n_images, height, width[, channels]) array, in [0, 1]
    labels : (n_images,) array of int
    epochs : int
    rate : float
        The first learning rate.
    seed : int
        Of the order of the images, of `augment` and of `forward`.
    augment : callable, optional
        From a batch of images, as `forward` takes them, to another.
    loss : callable
        From what `forward` returns, and the labels, to one number.
    batch : int
        Images of one update.
    constant : int
        Epochs with the first learning rate; in those after them, it goes down to zero along a
        cosine.
    last_batch : bool
        Whether an epoch ends with the images that do not fill a batch, as Keras' does.
    epsilon : float
        Adam's; PyTorch's default. Keras' is 1e-7.
    """
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)  # the last bits of a sum, and so of the file, depend on it
    x = torch.tensor(images.reshape(*images.shape[:3], -1), dtype=torch.float32)
    x = x.permute(0, 3, 1, 2)  # channels last in memory, which is the faster for PyTorch too
    y = torch.tensor(labels)
    weights = [variable.value for variable in model.trainable_variables]
    optimizer = torch.optim.Adam(weights, lr=rate, eps=epsilon, fused=True)
    n_batches = -(-len(x) // batch) if last_batch else len(x) // batch
    n_decaying = max(epochs - constant, 1) * n_batches
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_decaying)
    for epoch in range(epochs):
        total = 0.0
        for chosen in torch.randperm(len(x))[: n_batches * batch].split(batch):
            shown = x[chosen] if augment is None else augment(x[chosen])
            found = loss(forward(weights, shown), y[chosen])
            optimizer.zero_grad()
            found.backward()
            optimizer.step()
            if epoch >= constant:
                schedule.step()
            total += found.item()
        print(f"epoch {epoch + 1}/{epochs}: loss {total / n_batches:.4f}", flush=True)


def random_affine(x, *, shift=0, rotation=0.0, zoom=0.0, shear=0.0, flip=False, mode="zeros"):
    """Shift, turn, zoom, shear and mirror each image at random.

    Parameters
    ----------
    x : (n, channels, height, width) tensor
    shift : int
        Largest shift along either axis, in pixels; shifts are whole, so that they blur nothing.
    rotation : float
        Largest angle, in radians.
    zoom : float
        Largest change of the scale of either axis.
    shear : float
        Largest shift of a row per row.
    flip : bool
        Whether to mirror every other image, left to right.
    mode : str
        What is seen beyond the edge, as in `torch.nn.functional.grid_sample`.
    """

    def uniform(limit):
        return limit * (2 * torch.rand(len(x)) - 1)

    angle, slant = uniform(rotation), uniform(shear)
    wide, high = 1 + uniform(zoom), 1 + uniform(zoom)
    if flip:
        wide = wide * torch.sign(uniform(1.0))
    matrix = torch.zeros(len(x), 2, 3)
    matrix[:, 0, 0] = wide * angle.cos()
    matrix[:, 0, 1] = slant - angle.sin()
    matrix[:, 1, 0] = angle.sin()
    matrix[:, 1, 1] = high * angle.cos()
    pixels = torch.randint(-shift, shift + 1, (len(x), 2))
    matrix[:, :, 2] = pixels * 2 / torch.tensor(x.shape[:1:-1])  # the grid goes from -1 to 1
    grid = F.affine_grid(matrix, x.shape, align_corners=False)
    return F.grid_sample(x, grid, padding_mode=mode, align_corners=False)


def accuracy(model, images, labels):
    """Return Keras' own accuracy."""
    images = np.asarray(images, dtype=np.float32).reshape(len(images), *model.input_shape[1:])
    logits = model.predict(images, batch_size=500, verbose=0)
    return float(np.mean(keras.ops.argmax(logits, axis=-1).numpy() == labels))
