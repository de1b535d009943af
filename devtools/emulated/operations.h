// Every operation that has no function of its own in kernels.h: the processor's, on the device's memory.

#pragma once

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include <unordered_set>

#include "devices.h"
#include "sizes.h"

namespace {

// The tensors of one call, before and after they got the processor's name.
struct Call {
  std::vector<Tensor> device, cpu;
  c10::DeviceIndex index = -1;

  Tensor to_cpu(const Tensor& tensor) {
    if (!tensor.defined() || tensor.device().type() != kKind) return tensor;
    TORCH_CHECK(index < 0 || index == tensor.device().index(), "Expected all tensors to be on the same device, but found ",
                "at least two devices, ", c10::Device(kKind, index), " and ", tensor.device());
    index = tensor.device().index();
    device.push_back(tensor);
    cpu.push_back(as_cpu(tensor));
    return cpu.back();
  }

  // Of what the call returned: an argument, a view of one, or something new.
  Tensor to_device(const Tensor& result) {
    if (!result.defined()) return result;
    const auto* at = static_cast<const char*>(result.storage().data());
    for (size_t i = 0; i < cpu.size(); ++i) {
      if (result.is_same(cpu[i])) return device[i];
      const auto* begin = static_cast<const char*>(device[i].storage().data());
      if (at != nullptr && at >= begin && at < begin + device[i].storage().nbytes())
        return view_of(device[i], result);
    }
    return adopted(result, index < 0 ? current : index);
  }

  // An `out` that had the wrong size got new memory.
  void settle() {
    for (size_t i = 0; i < cpu.size(); ++i) {
      if (cpu[i].sizes() == device[i].sizes()) continue;
      device[i].resize_(cpu[i].sizes());
      as_cpu(device[i]).copy_(cpu[i]);
    }
  }
};

// Operations that take a place on the processor beside values on the device, on a GPU too.
bool takes_cpu(const std::string& name) {
  static const std::unordered_set<std::string> known = {"aten::index", "aten::index_put", "aten::index_put_",
                                                        "aten::_index_put_impl_", "aten::_unsafe_index",
                                                        "aten::_unsafe_index_put"};
  return known.count(name) > 0;
}

void check_mixed(const c10::OperatorHandle& op, const std::vector<Tensor>& others) {
  if (takes_cpu(op.operator_name().name)) return;
  for (const auto& other : others)
    TORCH_CHECK(other.device().type() == kKind || other.dim() == 0, "Expected all tensors to be on the same device, but ",
                "found at least two devices, ", c10::Device(kKind, current), " and ", other.device(), "! (in ",
                op.operator_name().name, ")");
}

void on_cpu(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  if (by_size_alone(op, stack)) return;
  const auto& arguments = op.schema().arguments();
  const size_t first = stack->size() - arguments.size();
  Call call;
  std::vector<Tensor> others;
  at::Generator generator, drawn_from;
  auto swap = [&](const Tensor& tensor) {
    if (tensor.defined()) others.push_back(tensor);
    return call.to_cpu(tensor);
  };
  for (size_t i = 0; i < arguments.size(); ++i) {
    IValue& value = (*stack)[first + i];
    if (replace_tensors(value, swap)) continue;
    if (value.isDevice()) {
      if (call.index < 0 && value.toDevice().has_index()) call.index = value.toDevice().index();
      value = c10::Device(at::kCPU);
    } else if (arguments[i].name() == "generator") {
      generator = value.isGenerator() ? value.toGenerator() : default_generator(call.index);
      TORCH_CHECK(generator.device().type() == kKind, "Expected a generator of the emulated device, found one of ",
                  generator.device());
      drawn_from = at::make_generator<at::CPUGeneratorImpl>();
      drawn_from.set_state(generator.get_state());
      value = drawn_from;
    }
  }
  check_mixed(op, others);
  {
    at::AutoDispatchBelowADInplaceOrView below;
    op.callBoxed(stack);
  }
  if (drawn_from.defined()) generator.set_state(drawn_from.get_state());
  call.settle();
  const size_t results = op.schema().returns().size();
  for (size_t i = stack->size() - results; i < stack->size(); ++i)
    replace_tensors((*stack)[i], [&](const Tensor& tensor) { return call.to_device(tensor); });
}

TORCH_LIBRARY_IMPL(_, XPU, m) {
  m.fallback(torch::CppFunction::makeFromBoxedFunction<&on_cpu>());
}

}  // namespace
