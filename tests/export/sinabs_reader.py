"""Run in an environment of its own: reads NIR with sinabs, and writes what each layer emits.

    python sinabs_reader.py FILE.nir IMAGES.npz OUT.npz {single,multiple}

It knows nothing of leanspike. sinabs 3.1.3 wants nir 1.0.4 or older, and leanspike newer ones.
"""

import sys
import warnings

import nir
import numpy as np
import torch

warnings.simplefilter("ignore")


def main(path: str, given: str, out: str, spikes: str) -> None:
    """Images ``[N, ...]``, T times, to outputs and spikes, ``[T, N, ...]`` each."""
    import sinabs.activation
    import sinabs.layers
    from sinabs.nir import from_nir

    arrays = np.load(given)
    x, steps = torch.from_numpy(arrays["x"]), int(arrays["steps"])
    network = from_nir(nir.read(path), batch_size=len(x))
    found, names = {}, [str(name) for name in arrays["layers"]]

    def noting(name):
        def note(_, __, o):
            found[name] = o.unflatten(0, (len(x), steps)).transpose(0, 1)

        return note

    for name in names:
        layer = network.get_submodule(name.replace(".", "_"))
        if spikes == "single":
            layer.spike_fn = sinabs.activation.SingleSpike
        layer.register_forward_hook(noting(name))
    with torch.no_grad():  # sinabs lays out time inside of samples
        y = network(x.repeat_interleave(steps, 0))
    y = y[0] if isinstance(y, tuple) else y
    outputs = y.unflatten(0, (len(x), steps)).transpose(0, 1)
    np.savez(out, outputs=outputs.numpy(), **{f"spikes {n}": o.numpy() for n, o in found.items()})


if __name__ == "__main__":
    main(*sys.argv[1:])
