// Sizes alone: large tensors get memory that is counted and never written to, so that what a model of full size takes on a
// device can be told in seconds. Small ones are computed as always; what comes of large ones is zero.

#pragma once

#include <ATen/core/dispatch/Dispatcher.h>

#include <algorithm>

#include "kernels.h"

namespace {

// Put what `swap` makes of it in place of every tensor of an argument or result; false where it holds none.
template <typename Swap>
bool replace_tensors(IValue& value, Swap swap) {
  if (value.isTensor()) {
    value = swap(value.toTensor());
  } else if (value.isTensorList()) {
    c10::List<Tensor> swapped;
    for (const Tensor& tensor : value.toTensorVector()) swapped.push_back(swap(tensor));
    value = swapped;
  } else if (value.isOptionalTensorList()) {
    c10::List<std::optional<Tensor>> swapped;
    for (const auto& tensor : value.toOptionalTensorVector())
      swapped.push_back(tensor ? std::optional<Tensor>(swap(*tensor)) : std::nullopt);
    value = swapped;
  } else {
    return false;
  }
  return true;
}

bool gives_views(const c10::OperatorHandle& op) {
  const auto& results = op.schema().returns();
  return !results.empty() && std::all_of(results.begin(), results.end(), [](const c10::Argument& result) {
    return result.alias_info() != nullptr && !result.alias_info()->isWrite();
  });
}

// Run `op` for the shapes of what it returns. False, and nothing changed, where all is small or only its values tell them.
bool by_size_alone(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  if (!sizes_alone || gives_views(op)) return false;
  const auto& arguments = op.schema().arguments();
  torch::jit::Stack shapes(stack->end() - arguments.size(), stack->end());
  std::vector<std::pair<Tensor, Tensor>> known;  // on the device, and its shape
  c10::DeviceIndex index = current;
  bool large = false;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const bool tensors = replace_tensors(shapes[i], [&](const Tensor& tensor) {
      if (!tensor.defined() || tensor.dim() == 0 && tensor.device().type() != kKind) return tensor;
      large = large || is_large(tensor);
      if (tensor.device().type() == kKind) index = tensor.device().index();
      known.emplace_back(tensor, at::empty_strided(tensor.sizes(), tensor.strides(), tensor.options().device(at::kMeta)));
      return known.back().second;
    });
    if (!tensors && shapes[i].isDevice()) shapes[i] = c10::Device(at::kMeta);
    if (arguments[i].name() == "generator") shapes[i] = IValue();
  }
  if (!large) return false;
  try {
    at::AutoDispatchBelowADInplaceOrView below;
    op.callBoxed(&shapes);
  } catch (const c10::Error&) {
    return false;
  }
  torch::jit::drop(*stack, arguments.size());
  for (IValue& result : shapes) {
    replace_tensors(result, [&](const Tensor& shape) {
      for (const auto& [tensor, its] : known) {
        if (!shape.is_same(its)) continue;
        if (!is_large(tensor)) as_cpu(tensor).zero_();
        return tensor;
      }
      return shape.defined() ? unwritten(shape.sizes(), shape.strides(), shape.scalar_type(), index) : shape;
    });
    stack->push_back(std::move(result));
  }
  return true;
}

}  // namespace
