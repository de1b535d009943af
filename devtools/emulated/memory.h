// The memory of each device: what is taken of it, and one memory under two names.

#pragma once

#include <ATen/ATen.h>
#include <c10/core/CPUAllocator.h>

#include <array>
#include <atomic>
#include <cstring>

namespace {

using at::Tensor;
using c10::IValue;

constexpr auto kKind = c10::DeviceType::XPU;
const c10::DispatchKeySet kKeys(c10::DispatchKey::XPU);
constexpr int kMostDevices = 2;
constexpr int64_t kSmall = 1 << 16;  // elements; more is large where sizes alone count
constexpr size_t kBlock = 512;  // bytes; what is given out are whole blocks, as on a GPU

struct Memory {
  std::atomic<size_t> capacity{size_t(1) << 36}, allocated{0}, peak{0};
};

std::array<Memory, kMostDevices> memories;
std::atomic<int> count{1};
std::atomic<bool> has_float64{true};
std::atomic<bool> sizes_alone{false};  // see sizes.h
thread_local c10::DeviceIndex current = 0;

size_t in_blocks(size_t bytes) {
  return (bytes + kBlock - 1) / kBlock * kBlock;
}

void take(c10::DeviceIndex index, size_t bytes) {
  if (bytes == 0) return;
  auto& memory = memories.at(index);
  const size_t now = memory.allocated += bytes;
  if (now > memory.capacity) {
    memory.allocated -= bytes;
    TORCH_CHECK_WITH(OutOfMemoryError, false, "The emulated device ", int(index), " is out of memory. Tried to allocate ",
                     bytes >> 20, " MiB of ", memory.capacity.load() >> 20, " MiB, of which ",
                     memory.allocated.load() >> 20, " MiB are taken");
  }
  for (size_t peak = memory.peak; peak < now && !memory.peak.compare_exchange_weak(peak, now);) {
  }
}

// A block of the device: the processor's storage behind it, and how much it counts.
struct Held {
  c10::Storage storage;
  c10::DataPtr data;
  c10::DeviceIndex index;
  size_t bytes;
};

void release(void* context) {
  auto* held = static_cast<Held*>(context);
  memories.at(held->index).allocated -= held->bytes;
  delete held;
}

struct Allocator final : c10::Allocator {
  c10::DataPtr allocate(size_t bytes) override {
    const auto index = current;
    if (bytes == 0) return {nullptr, nullptr, &release, c10::Device(kKind, index)};
    take(index, in_blocks(bytes));
    auto data = c10::GetCPUAllocator()->allocate(bytes);
    void* pointer = data.get();
    return {pointer, new Held{{}, std::move(data), index, in_blocks(bytes)}, &release, c10::Device(kKind, index)};
  }
  c10::DeleterFnPtr raw_deleter() const override {
    return nullptr;
  }
  void copy_data(void* target, const void* source, size_t bytes) const override {
    std::memcpy(target, source, bytes);
  }
};

Allocator allocator;
REGISTER_ALLOCATOR(kKind, &allocator);

void check_type(const Tensor& tensor) {
  const bool wide = tensor.scalar_type() == at::kDouble || tensor.scalar_type() == at::kComplexDouble;
  TORCH_CHECK_TYPE(!wide || has_float64, "The emulated device has no float64");
}

// The memory of `tensor`, under the processor's name.
Tensor as_cpu(const Tensor& tensor) {
  const auto& storage = tensor.storage();
  const bool resizable = storage.nbytes() == 0;
  c10::Storage same(c10::Storage::use_byte_size_t{}, storage.nbytes(),
                    c10::DataPtr(const_cast<void*>(storage.data()), c10::Device(at::kCPU)),
                    resizable ? c10::GetCPUAllocator() : nullptr, resizable);
  auto result = at::detail::make_tensor<c10::TensorImpl>(std::move(same), c10::DispatchKeySet(c10::DispatchKey::CPU),
                                                         tensor.dtype());
  auto* impl = result.unsafeGetTensorImpl();
  impl->set_sizes_and_strides(tensor.sizes(), tensor.strides(), tensor.storage_offset());
  if (tensor.unsafeGetTensorImpl()->is_wrapped_number()) impl->set_wrapped_number(true);
  return result;
}

Tensor shaped(Tensor result, const Tensor& like) {
  result.unsafeGetTensorImpl()->set_sizes_and_strides(like.sizes(), like.strides(), like.storage_offset());
  if (like.is_conj()) result._set_conj(true);
  if (like.is_neg()) result._set_neg(true);
  check_type(result);
  return result;
}

// `result`, which lies in the memory of `base`, as a view of it.
Tensor view_of(const Tensor& base, const Tensor& result) {
  auto keys = base.key_set() - c10::DispatchKeySet({c10::DispatchKey::Conjugate, c10::DispatchKey::Negative});
  return shaped(at::detail::make_tensor<c10::TensorImpl>(c10::TensorImpl::VIEW, c10::Storage(base.storage()), keys,
                                                         result.dtype()),
                result);
}

// What the processor made, as memory of the device.
Tensor adopted(const Tensor& result, c10::DeviceIndex index) {
  const auto storage = result.storage();
  void* pointer = const_cast<void*>(storage.data());
  const size_t bytes = in_blocks(storage.nbytes());
  take(index, bytes);
  c10::DataPtr data(pointer, new Held{storage, {}, index, bytes}, &release, c10::Device(kKind, index));
  c10::Storage own(c10::Storage::use_byte_size_t{}, storage.nbytes(), std::move(data), &allocator, true);
  return shaped(at::detail::make_tensor<c10::TensorImpl>(std::move(own), kKeys, result.dtype()), result);
}

}  // namespace
