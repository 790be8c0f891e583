"""A pretend accelerator: a GPU's rules with a CPU's values, and a record of what happened on it.

A ``Pretend`` tensor keeps its data in main memory and says that it lies on ``pretend:0``, torch's PrivateUse1 device
with the Python backend. ``PretendMode`` sees every ATen call and records

- a mismatch: tensors of both devices in one call, where CUDA would raise; the call goes on, to find the others;
- a wait of this thread: ``item()``, ``bool()``, ``nonzero()``, boolean indexing, copies to the host and, of memory that
  is not pinned or without ``non_blocking``, to the device: CUDA then waits for all work queued before;
- a kernel: whatever else computes (views do not), inside or outside of the network that is watched.

``install`` changes the process for good: run it in one of its own.
"""

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from tests.worker.device_log import Log

NAME = "pretend"
aten = torch.ops.aten

READS = {
    aten._local_scalar_dense,
    aten.is_nonzero,
    aten.equal,
    aten.nonzero,
    aten.masked_select,
    aten.unique_dim,
    aten._unique2,
    aten.unique_consecutive,
    aten.repeat_interleave,
    aten.nonzero_static,
    aten.allclose,
}
COPIES = {aten._to_copy, aten.copy_}
VIEWS = {aten._unsafe_view, aten._reshape_alias, aten.detach, aten.lift_fresh, aten.alias}
"""Beside those whose schema says so."""
FUSED = {aten.scaled_dot_product_attention, aten.rms_norm, aten.upsample_nearest2d, aten.upsample_nearest3d}
"""One kernel on a GPU; elsewhere torch takes them apart."""
TAKE_SCALARS = {aten.fill_, aten.masked_fill, aten.masked_fill_, aten.where}
"""Beside pointwise operations: a host tensor without dimensions may be among their arguments."""
NO_SCALARS = {aten.cat, aten.stack, aten.index_select, aten.embedding, aten.mm, aten.addmm, aten.bmm, aten.convolution}
INDEXING = {aten.index, aten.index_put_, aten.index_put, aten._index_put_impl_}


log = Log()


def install() -> torch.device:
    """Once a process, before the first pretend tensor."""
    _setup_privateuseone_for_python_backend(NAME)
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(data, device=...) uploads where a mode can see it
    module: Any = torch.get_device_module(NAME)
    module.empty_cache = lambda: None  # accelerate asks for it
    module.Event = Done
    return torch.device(NAME, 0)


class Done:
    """An event: a pass that nobody waits for, as all work is done when its call returns."""

    def record(self) -> None: ...

    def synchronize(self) -> None: ...


class Pretend(torch.Tensor):
    """Data in main memory, said to lie on the device."""

    inner: Any  # the tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor, requires_grad: bool = False) -> "Pretend":  # as accelerate calls it
        if isinstance(inner, Pretend):
            return inner
        with torch.inference_mode(False):  # a view of a weight is no inference tensor, and the others need not be
            made: Pretend = torch.Tensor._make_wrapper_subclass(
                cls,
                inner.shape,
                strides=inner.stride(),
                storage_offset=inner.storage_offset(),
                dtype=inner.dtype,
                layout=inner.layout,
                device=torch.device(NAME, 0),
            )
        made.inner = inner
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        return _call(func, args, kwargs or {})

    def __repr__(self) -> str:  # type: ignore[override]
        return f"Pretend({tuple(self.inner.shape)}, {self.inner.dtype})"

    def numpy(self, *args: Any, **kwargs: Any) -> Any:
        log.mismatch("numpy() of a device tensor")
        return self.inner.numpy(*args, **kwargs)

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        log.mismatch("np.asarray() of a device tensor")
        return self.inner.__array__(*args, **kwargs)

    def untyped_storage(self) -> Any:
        return self.inner.untyped_storage()

    def data_ptr(self) -> int:
        return int(self.inner.data_ptr())

    def tolist(self) -> Any:
        log.wait("tolist()")
        return self.inner.tolist()


class PretendMode(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket in (aten.pin_memory, aten._pin_memory):
            log.pinned.append(args[0].clone())
            return log.pinned[-1]
        if func.overloadpacket is aten.is_pinned:
            return log.is_pinned(args[0])
        return _call(func, args, kwargs or {})


def _call(func: Any, args: Any, kwargs: Any) -> Any:
    packet, leaves = func.overloadpacket, tree_leaves((args, kwargs))
    on_device = any(isinstance(leaf, Pretend) for leaf in leaves)
    made_on_host = kwargs.get("device") is not None and torch.device(kwargs["device"]).type == "cpu"
    to_device = any(isinstance(leaf, torch.device) and leaf.type == NAME for leaf in leaves)
    if not on_device and not to_device:
        return func(*args, **kwargs)
    if packet not in FUSED and func.has_kernel_for_dispatch_key(torch._C.DispatchKey.CompositeImplicitAutograd):
        with PretendMode():  # what it is made of is seen, too
            out = func.decompose(*args, **kwargs)
        if out is not NotImplemented:
            return out
    if packet is aten._to_copy:
        return _to_copy(func, args[0], kwargs)
    if packet is aten.copy_ and isinstance(args[0], Pretend) != isinstance(args[1], Pretend):
        _cross(args[1], args[0], bool(kwargs.get("non_blocking", len(args) > 2 and args[2])))
    _check(func, leaves)
    if to_device:
        if (generator := kwargs.get("generator")) is not None and generator.device.type == "cpu":
            log.mismatch(f"{func}: a host generator for a device tensor")
        kwargs = {**kwargs, "device": torch.device("cpu")}
    if packet in READS or (packet is aten.index and any(_selects(leaf) for leaf in leaves[1:])):
        log.wait(str(func))
    out = func(*tree_map(_unwrap, args), **tree_map(_unwrap, kwargs))
    if not (packet in VIEWS or any(r.alias_info and not r.alias_info.is_write for r in func._schema.returns)):
        log.kernel()
    if (written := _written(func, args, kwargs)) is not None:
        return written
    return out if made_on_host else tree_map(_wrap, out)


def _to_copy(func: Any, source: torch.Tensor, kwargs: Any) -> torch.Tensor:
    wanted = torch.device(kwargs.get("device") or source.device)
    if wanted.type not in (NAME, "cpu"):  # to meta: nothing is moved. accelerate's, of a weight
        return torch.nn.Parameter(func(_unwrap(source), **kwargs), requires_grad=False)
    made = func(_unwrap(source), **{**kwargs, "device": torch.device("cpu")})
    copied: torch.Tensor = Pretend(made) if wanted.type == NAME else made
    if wanted.type == source.device.type:
        log.kernel()
    else:
        _cross(source, copied, bool(kwargs.get("non_blocking")))
    return copied


def _cross(source: torch.Tensor, target: torch.Tensor, non_blocking: bool) -> None:
    """Copy between main memory and device. Nobody waits for one of pinned memory that need not block."""
    host, way = (target, "host") if isinstance(source, Pretend) else (source, "device")
    if not (non_blocking and log.is_pinned(host)):
        log.wait(f"copy to the {way}")


def _check(func: Any, leaves: list[Any]) -> None:
    """Record what CUDA would refuse, and indices that it would have to upload."""
    packet = func.overloadpacket
    host = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor) and not isinstance(leaf, Pretend)]
    if not host or packet in COPIES or not any(isinstance(leaf, Pretend) for leaf in leaves):
        return
    if packet in INDEXING and isinstance(leaves[0], Pretend):
        log.wait(f"{func}: indices on the host")
    elif (
        any(tensor.dim() for tensor in host)
        or packet in NO_SCALARS
        or (torch.Tag.pointwise not in func.tags and packet not in TAKE_SCALARS)
    ):
        log.mismatch(f"{func}: host tensors {[tuple(tensor.shape) for tensor in host]} beside device tensors")


def _written(func: Any, args: Any, kwargs: Any) -> Any:
    """The arguments that the call writes to and returns, in the order of its returns; None if it writes none."""
    if not func._schema.is_mutable:
        return None
    by_set = {
        name: kwargs.get(argument.name, args[place] if place < len(args) else None)
        for place, argument in enumerate(func._schema.arguments)
        if argument.alias_info and argument.alias_info.is_write
        for name in argument.alias_info.before_set
    }
    outs = [by_set.get(next(iter(r.alias_info.before_set), None)) for r in func._schema.returns if r.alias_info]
    return outs[0] if len(outs) == 1 else tuple(outs) or None


def _selects(leaf: Any) -> bool:
    return isinstance(leaf, torch.Tensor) and leaf.dtype in (torch.bool, torch.uint8)


def _unwrap(value: Any) -> Any:
    return value.inner if isinstance(value, Pretend) else value


def _wrap(value: Any) -> Any:
    return Pretend(value) if isinstance(value, torch.Tensor) else value
