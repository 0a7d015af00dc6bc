"""Run in an environment of its own: reads NIR with Rockpool, and writes what each layer emits.

    python rockpool_reader.py FILE.nir VECTORS.npz OUT.npz {single,multiple}

It knows nothing of leanspike. Rockpool 3.1.0 wants nir 1.0.4 or older, and leanspike newer ones.
"""

import sys
import warnings

import nir
import numpy as np
import torch

warnings.simplefilter("ignore")


def main(path: str, given: str, out: str, spikes: str) -> None:
    """Vectors ``[N, C]``, T times, to outputs and spikes, ``[T, N, ...]`` each."""
    from rockpool.nn.modules import from_nir

    arrays = np.load(given)
    x, steps = torch.from_numpy(arrays["x"]), int(arrays["steps"])
    network = from_nir(nir.read(path))
    found = {}

    def noting(name):
        def note(_, __, o):
            found[name] = (o[0] if isinstance(o, tuple) else o).transpose(0, 1)

        return note

    for name in (str(name) for name in arrays["layers"]):
        layer = network.get_submodule(name.replace(".", "_"))
        if spikes == "single":
            layer.max_spikes_per_dt = torch.tensor(1.0)
        layer.register_forward_hook(noting(name))
    with torch.no_grad():  # Rockpool lays out time inside of samples
        y, _ = network(x[:, None].expand(-1, steps, -1).clone())
    outputs = y.transpose(0, 1)
    np.savez(out, outputs=outputs.numpy(), **{f"spikes {n}": o.numpy() for n, o in found.items()})


if __name__ == "__main__":
    main(*sys.argv[1:])
