#!/bin/sh
# Make one environment for each peer: sh benchmarks/peers/setup.sh [FOLDER]
# FOLDER is .venv-peers by default; PYTHON chooses the interpreter: 3.11, since SpikingJelly 2 needs
# no older and TensorFlow 2.12 no newer one. Brian2 and torch.compile need a C++ compiler
# (g++), Brian2 make.
set -eu
folder=${1:-.venv-peers}
python=${PYTHON:-python3}

new() {
    "$python" -m venv "$folder/$1"
}

install() {
    environment=$1
    shift
    "$folder/$environment/bin/python" -m pip install --quiet "$@"
}

# The peers are installed without their dependencies where these would bring torchvision and
# torchaudio, which nothing here uses; what they do import is named instead.
new spikingjelly
install spikingjelly torch==2.13.0 numpy==2.4.6 h5py==3.16.0
install spikingjelly loguru==0.7.3 matplotlib==3.11.2 packaging==26.3 requests==2.34.2 \
    scipy==1.17.1 tensorboard==2.21.0 tqdm==4.70.1
install spikingjelly --no-deps spikingjelly==2.0.0

new snntorch
install snntorch torch==2.13.0 numpy==2.4.6 h5py==3.16.0
install snntorch --no-deps snntorch==1.0.0

new sinabs
install sinabs torch==2.13.0 numpy==2.4.6 h5py==3.16.0 matplotlib==3.11.2 pbr==7.0.3
install sinabs --no-deps nir==1.0.8 nirtorch==2.6 sinabs==3.1.3

new spyx
install spyx spyx==1.0.0 jax==0.10.2 flax==0.12.8 numpy==2.4.6

# NengoDL 3.6.0 imports keras.engine, which Keras 2.13 moved.
new nengodl
install nengodl tensorflow-cpu==2.12.1 numpy==1.23.5 nengo==3.2.0 jinja2==3.1.6 packaging==26.4 \
    progressbar2==4.6.0
install nengodl --no-deps nengo-dl==3.6.0

# Brian2 2.9.0 cannot be imported with NumPy 2.4.
new brian2
install brian2 brian2==2.9.0 numpy==2.3.5 h5py==3.16.0 setuptools==80.9.0

for environment in spikingjelly snntorch sinabs spyx nengodl brian2; do
    "$folder/$environment/bin/python" -m pip list 2>/dev/null |
        grep -i -E "^(torch|spikingjelly|snntorch|sinabs|spyx|jax|nengo-dl|tensorflow-cpu|brian2|numpy) "
done
