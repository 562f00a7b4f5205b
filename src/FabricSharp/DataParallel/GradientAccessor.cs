using System.Runtime.InteropServices;
using FabricSharp.Collectives;
using FabricSharp.Interop.LibTorch;
using static TorchSharp.torch;

namespace FabricSharp.DataParallel;

/// <summary>
/// How a reducer gets at <c>.grad</c>: by pointer where libtorch's entry points are there, else through TorchSharp; and whether it moves elements itself or
/// has libtorch do it, for gradients in the memory of a device.
/// </summary>
internal abstract unsafe class GradientAccessor
{
    /// <param name="native">Whether libtorch's entry points are there.</param>
    /// <param name="onDevice">Whether addresses of elements mean nothing here.</param>
    public static GradientAccessor Create(bool native, bool onDevice) => (native, onDevice) switch
    {
        (true, false) => new NativeAccessor(),
        (false, false) => new ManagedAccessor(),
        (true, true) => new NativeDeviceAccessor(),
        _ => new ManagedDeviceAccessor(),
    };

    /// <summary>Whether <c>.grad</c> can be made a view of the bucket.</summary>
    public abstract bool CanUseViews { get; }

    /// <summary>Whether slots need tensors over their places in the bucket in any case.</summary>
    public virtual bool NeedsTensors => false;

    public abstract bool HasGradient(ParameterSlot slot);

    /// <summary>Copies <c>.grad</c>, which exists, into the bucket unless it lies there already.</summary>
    public abstract void CopyToBucket(ParameterSlot slot);

    /// <summary>Writes zeros into the bucket.</summary>
    public virtual void Clear(ParameterSlot slot) => NativeMemory.Clear((void*)slot.Slice, (nuint)slot.Bytes);

    /// <summary>Finds or brings <c>.grad</c>, which exists, to a place of the pool that is the slot's.</summary>
    public virtual void BringToPool(ParameterSlot slot, GradientPool pool) => throw new NotSupportedException("Gradients cannot live in a pool here.");

    /// <summary>Makes <c>.grad</c> zeros in the pool.</summary>
    public virtual void MakeZerosInPool(ParameterSlot slot, GradientPool pool) => throw new NotSupportedException("Gradients cannot live in a pool here.");

    /// <summary>Makes <c>.grad</c> the slot's view of the bucket.</summary>
    public abstract void PointToBucket(ParameterSlot slot);

    /// <summary>Copies the bucket's content to <c>.grad</c>, which is made when it is missing.</summary>
    public abstract void CopyFromBucket(ParameterSlot slot);

    protected static InvalidOperationException Sparse(ParameterSlot slot) =>
        new($"The gradient of parameter {slot.Index} '{slot.Name}' is sparse. Sparse gradients are not averaged: make the embedding with sparse: false, or keep the parameter out of the data-parallel model.");

    private class NativeAccessor : GradientAccessor
    {
        public override bool CanUseViews => true;

        public override bool HasGradient(ParameterSlot slot) => GradientAccess.GradientOf(slot.Parameter.Handle) != IntPtr.Zero;

        public override void CopyToBucket(ParameterSlot slot)
        {
            var gradient = GradientAccess.GradientOf(slot.Parameter.Handle);
            if (!GradientAccess.IsStrided(gradient))
                throw Sparse(slot);
            var data = GradientAccess.DataPointer(gradient);
            if (data == slot.Slice)
                return;
            RequireFit(slot, GradientAccess.ElementCount(gradient), GradientAccess.ScalarType(gradient));
            if (GradientAccess.HasStrides(gradient, slot.Strides))
                Buffer.MemoryCopy((void*)data, (void*)slot.Slice, slot.Bytes, slot.Bytes);
            else
                CopyStrided(slot, gradient);
        }

        public override void PointToBucket(ParameterSlot slot)
        {
            var gradient = GradientAccess.GradientOf(slot.Parameter.Handle);
            if (gradient == IntPtr.Zero || GradientAccess.DataPointer(gradient) != slot.Slice)
                GradientAccess.SetGradient(slot.Parameter.Handle, slot.View!.Handle);
        }

        public override void CopyFromBucket(ParameterSlot slot)
        {
            var gradient = GradientAccess.GradientOf(slot.Parameter.Handle);
            if (gradient == IntPtr.Zero)
            {
                using var created = slot.View!.clone();
                GradientAccess.SetGradient(slot.Parameter.Handle, created.Handle);
            }
            else
            {
                GradientAccess.Copy(gradient, slot.View!.Handle);
            }
        }

        public override void BringToPool(ParameterSlot slot, GradientPool pool)
        {
            var gradient = GradientAccess.GradientOf(slot.Parameter.Handle);
            if (!GradientAccess.IsStrided(gradient))
                throw Sparse(slot);
            RequireFit(slot, GradientAccess.ElementCount(gradient), GradientAccess.ScalarType(gradient));
            var data = GradientAccess.DataPointer(gradient);
            var isInOrder = GradientAccess.HasStrides(gradient, slot.Strides);
            if (isInOrder && IsAlone(gradient) && pool.TryAdopt(slot.Index, data))
            {
                slot.PoolData = data;
                return;
            }

            using var view = TakePlace(slot, pool);
            if (isInOrder)
                Buffer.MemoryCopy((void*)data, (void*)slot.PoolData, slot.Bytes, slot.Bytes);
            else
                CopyReordered(slot, view);
            GradientAccess.SetGradient(slot.Parameter.Handle, view.Handle);
        }

        /// <summary>
        /// Whether nothing but <c>.grad</c> lies in the gradient's memory. It may be a view of a tensor that the backward pass has yet to read (the
        /// gradient of a parameter that was used through a view is): that must not see averages.
        /// </summary>
        private static bool IsAlone(IntPtr gradient) => CpuAllocator.IsSupported && GradientAccess.StorageUseCount(gradient) == 1;

        /// <summary>Makes a place of the pool the slot's, and a tensor of the gradient's shape over it.</summary>
        private static Tensor TakePlace(ParameterSlot slot, GradientPool pool)
        {
            using var flat = pool.Take(slot.Index, slot.Type);
            var view = flat.as_strided(slot.Shape, slot.Strides);
            slot.PoolData = GradientAccess.DataPointer(view.Handle);
            return view;
        }

        /// <summary>Through a copy, for the gradient may lie in the very place that it is brought to.</summary>
        private static void CopyReordered(ParameterSlot slot, Tensor view)
        {
            using var gradient = slot.Parameter.grad!;
            using var copy = gradient.clone();
            GradientAccess.Copy(view.Handle, copy.Handle);
        }

        public override void MakeZerosInPool(ParameterSlot slot, GradientPool pool)
        {
            using var view = TakePlace(slot, pool);
            NativeMemory.Clear((void*)slot.PoolData, (nuint)slot.Bytes);
            GradientAccess.SetGradient(slot.Parameter.Handle, view.Handle);
        }

        private static void CopyStrided(ParameterSlot slot, IntPtr gradient) => GradientAccess.Copy(slot.View!.Handle, gradient);
    }

    /// <summary>Addresses of the device are only compared.</summary>
    private sealed class NativeDeviceAccessor : NativeAccessor
    {
        public override bool NeedsTensors => true;

        public override void CopyToBucket(ParameterSlot slot)
        {
            var gradient = GradientAccess.GradientOf(slot.Parameter.Handle);
            if (!GradientAccess.IsStrided(gradient))
                throw Sparse(slot);
            if (GradientAccess.DataPointer(gradient) == slot.Slice)
                return;
            RequireFit(slot, GradientAccess.ElementCount(gradient), GradientAccess.ScalarType(gradient));
            GradientAccess.Copy(slot.View!.Handle, gradient);
        }

        public override void Clear(ParameterSlot slot) => ClearView(slot);
    }

    private class ManagedAccessor : GradientAccessor
    {
        public override bool CanUseViews => false;

        public override bool HasGradient(ParameterSlot slot)
        {
            using var gradient = slot.Parameter.grad;
            return gradient is not null;
        }

        public override void CopyToBucket(ParameterSlot slot)
        {
            using var scope = NewDisposeScope();
            using var gradientsOff = no_grad();
            var gradient = slot.Parameter.grad!;
            if (gradient.is_sparse)
                throw Sparse(slot);
            RequireFit(slot, gradient.numel(), gradient.dtype);
            var source = gradient.contiguous(); // without strided views every gradient travels row-major
            Buffer.MemoryCopy((void*)TensorMemory.PointerOf(source), (void*)slot.Slice, slot.Bytes, slot.Bytes);
        }

        public override void PointToBucket(ParameterSlot slot) => throw new NotSupportedException("Gradients cannot be views of buckets here.");

        public override void CopyFromBucket(ParameterSlot slot)
        {
            using var scope = NewDisposeScope();
            using var gradientsOff = no_grad();
            var result = empty(slot.Shape, slot.Type);
            if (slot.Bytes > 0)
                Buffer.MemoryCopy((void*)slot.Slice, (void*)TensorMemory.PointerOf(result), slot.Bytes, slot.Bytes);
            if (slot.Parameter.grad is { } gradient)
                gradient.copy_(result);
            else
                slot.Parameter.grad = result;
        }
    }

    private sealed class ManagedDeviceAccessor : ManagedAccessor
    {
        public override bool NeedsTensors => true;

        public override void CopyToBucket(ParameterSlot slot)
        {
            using var gradientsOff = no_grad();
            using var gradient = slot.Parameter.grad!;
            if (gradient.is_sparse)
                throw Sparse(slot);
            RequireFit(slot, gradient.numel(), gradient.dtype);
            slot.View!.copy_(gradient);
        }

        public override void CopyFromBucket(ParameterSlot slot)
        {
            using var gradientsOff = no_grad();
            using var gradient = slot.Parameter.grad;
            if (gradient is not null)
            {
                gradient.copy_(slot.View!);
                return;
            }

            using var made = slot.View!.clone();
            slot.Parameter.grad = made;
        }

        public override void Clear(ParameterSlot slot) => ClearView(slot);
    }

    private static void ClearView(ParameterSlot slot)
    {
        using var gradientsOff = no_grad();
        slot.View!.zero_();
    }

    private static void RequireFit(ParameterSlot slot, long count, ScalarType type)
    {
        if (count != slot.ElementCount || type != slot.Type)
            throw new InvalidOperationException(
                $"The gradient of parameter {slot.Index} '{slot.Name}' has {count} elements of {type}; the parameter had {slot.ElementCount} of {slot.Type} at set-up. " +
                "Do not move or convert the module after Setup.");
    }
}
