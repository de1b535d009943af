// Operations that PyTorch asks of a device by another name than of the processor, or that work otherwise on a GPU.

#pragma once

#include <ATen/EmptyTensor.h>
#include <ATen/native/ConvUtils.h>
#include <ATen/native/Resize.h>
#include <torch/library.h>

#include <c10/util/strides.h>

#include <limits>

#include "memory.h"

namespace {

Tensor empty(at::IntArrayRef size, std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
             std::optional<at::Device> device, std::optional<bool>, std::optional<at::MemoryFormat> format) {
  const c10::OptionalDeviceGuard guard(device);
  const Tensor result = at::detail::empty_generic(size, &allocator, kKeys, c10::dtype_or_default(dtype), format);
  check_type(result);
  return result;
}

Tensor empty_strided(at::IntArrayRef size, at::IntArrayRef stride, std::optional<at::ScalarType> dtype,
                     std::optional<at::Layout>, std::optional<at::Device> device, std::optional<bool>) {
  const c10::OptionalDeviceGuard guard(device);
  const Tensor result = at::detail::empty_strided_generic(size, stride, &allocator, kKeys, c10::dtype_or_default(dtype));
  check_type(result);
  return result;
}

bool is_large(const Tensor& tensor) {
  return sizes_alone && tensor.numel() > kSmall;
}

// Memory of the device with nothing in it; zeros where it is small enough to be computed with.
Tensor unwritten(at::IntArrayRef size, at::IntArrayRef stride, at::ScalarType dtype, c10::DeviceIndex index) {
  auto result = empty_strided(size, stride, dtype, std::nullopt, c10::Device(kKind, index), std::nullopt);
  if (!is_large(result) && result.storage().nbytes() > 0)
    std::memset(result.storage().mutable_data(), 0, result.storage().nbytes());
  return result;
}

Tensor unwritten_like(const Tensor& tensor) {
  return unwritten(tensor.sizes(), c10::contiguous_strides(tensor.sizes()), tensor.scalar_type(), tensor.device().index());
}

Tensor either_as_cpu(const Tensor& tensor) {
  return tensor.defined() && tensor.device().type() == kKind ? as_cpu(tensor) : tensor;
}

std::optional<Tensor> maybe_as_cpu(const std::optional<Tensor>& tensor) {
  return tensor && tensor->defined() ? std::optional<Tensor>(either_as_cpu(*tensor)) : std::nullopt;
}

Tensor maybe_adopted(const Tensor& result, c10::DeviceIndex index) {
  return result.defined() ? adopted(result, index) : result;
}

Tensor& copy_(Tensor& self, const Tensor& source, bool) {
  if (is_large(self)) return self;
  at::AutoDispatchBelowADInplaceOrView below;
  either_as_cpu(self).copy_(either_as_cpu(source));
  return self;
}

Tensor copy_from(const Tensor& self, const Tensor& target, bool) {
  Tensor written = target;
  return copy_(written, self, false);
}

Tensor copy_from_and_resize(const Tensor& self, const Tensor& target) {
  target.resize_(self.sizes());
  return copy_from(self, target, false);
}

const Tensor& resize_(const Tensor& self, c10::SymIntArrayRef size, std::optional<at::MemoryFormat> format) {
  const c10::DeviceGuard guard(self.device());
  return at::native::resize_(self, C10_AS_INTARRAYREF_SLOW(size), format);
}

Tensor& set_storage_part(Tensor& self, at::Storage storage, c10::SymInt offset, c10::SymIntArrayRef size,
                         c10::SymIntArrayRef stride) {
  auto* impl = self.unsafeGetTensorImpl();
  const auto sizes = C10_AS_INTARRAYREF_SLOW(size);
  impl->set_storage_keep_dtype(std::move(storage));
  impl->set_storage_offset(offset.expect_int());
  if (stride.empty())
    impl->set_sizes_contiguous(sizes);
  else
    impl->set_sizes_and_strides(sizes, C10_AS_INTARRAYREF_SLOW(stride));
  return self;
}

Tensor& set_storage(Tensor& self, at::Storage storage) {
  const auto elements = static_cast<int64_t>(storage.nbytes() / self.itemsize());
  return set_storage_part(self, std::move(storage), 0, {c10::SymInt(elements)}, {});
}

Tensor convolution(const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias, c10::SymIntArrayRef stride,
                   c10::SymIntArrayRef padding, c10::SymIntArrayRef dilation, bool transposed,
                   c10::SymIntArrayRef output_padding, c10::SymInt groups) {
  at::AutoDispatchBelowADInplaceOrView below;
  if (is_large(input) || is_large(weight)) {
    TORCH_CHECK(!transposed, "Sizes alone of a transposed convolution are not known");
    const auto size = at::native::conv_output_size(input.sizes(), weight.sizes(), C10_AS_INTARRAYREF_SLOW(padding),
                                                   C10_AS_INTARRAYREF_SLOW(stride), C10_AS_INTARRAYREF_SLOW(dilation));
    return at::zeros(size, input.options());
  }
  const auto result = at::convolution_symint(either_as_cpu(input), either_as_cpu(weight), maybe_as_cpu(bias), stride,
                                             padding, dilation, transposed, output_padding, groups);
  return adopted(result, input.device().index());
}

std::tuple<Tensor, Tensor, Tensor> convolution_backward(const Tensor& grad, const Tensor& input, const Tensor& weight,
                                                        c10::SymIntArrayRef stride, c10::SymIntArrayRef padding,
                                                        c10::SymIntArrayRef dilation, bool transposed,
                                                        c10::SymIntArrayRef output_padding, c10::SymInt groups,
                                                        std::array<bool, 3> mask) {
  at::AutoDispatchBelowADInplaceOrView below;
  const auto index = input.device().index();
  if (is_large(grad) || is_large(input) || is_large(weight)) {
    auto asked = [&](bool is_asked, const Tensor& of) { return is_asked ? unwritten_like(of) : Tensor(); };
    return {asked(mask[0], input), asked(mask[1], weight),
            mask[2] ? at::zeros({grad.size(1)}, grad.options()) : Tensor()};
  }
  const std::vector<c10::SymInt> channels{grad.sym_size(1)};
  auto [of_input, of_weight, of_bias] =
      at::convolution_backward_symint(either_as_cpu(grad), either_as_cpu(input), either_as_cpu(weight),
                                      at::OptionalSymIntArrayRef(channels), stride, padding, dilation, transposed,
                                      output_padding, groups, mask);
  return {maybe_adopted(of_input, index), maybe_adopted(of_weight, index), maybe_adopted(of_bias, index)};
}

// Intel's kernels take these in any order of memory, so that PyTorch puts nothing in order for them; the processor's do not.
std::tuple<Tensor, Tensor, Tensor> group_norm(const Tensor& input, const std::optional<Tensor>& weight,
                                              const std::optional<Tensor>& bias, int64_t n, int64_t c, int64_t hw,
                                              int64_t groups, double eps) {
  at::AutoDispatchBelowADInplaceOrView below;
  const auto index = input.device().index();
  if (is_large(input)) {
    auto statistics = [&] { return at::zeros({n, groups}, input.options().dtype(at::kFloat)); };
    return {unwritten_like(input), statistics(), statistics()};
  }
  auto [output, mean, rstd] = at::native_group_norm(either_as_cpu(input).contiguous(), maybe_as_cpu(weight),
                                                    maybe_as_cpu(bias), n, c, hw, groups, eps);
  return {adopted(output, index), adopted(mean, index), adopted(rstd, index)};
}

std::tuple<Tensor, Tensor, Tensor> group_norm_backward(const Tensor& grad, const Tensor& input, const Tensor& mean,
                                                       const Tensor& rstd, const std::optional<Tensor>& weight, int64_t n,
                                                       int64_t c, int64_t hw, int64_t groups, std::array<bool, 3> mask) {
  at::AutoDispatchBelowADInplaceOrView below;
  const auto index = input.device().index();
  if (is_large(input)) {
    auto of_channels = [&](bool is_asked) { return is_asked ? at::zeros({c}, input.options()) : Tensor(); };
    return {mask[0] ? unwritten_like(input) : Tensor(), of_channels(mask[1]), of_channels(mask[2])};
  }
  auto [of_input, of_weight, of_bias] = at::native_group_norm_backward(
      either_as_cpu(grad).contiguous(), either_as_cpu(input).contiguous(), either_as_cpu(mean), either_as_cpu(rstd),
      maybe_as_cpu(weight), n, c, hw, groups, mask);
  return {maybe_adopted(of_input, index), maybe_adopted(of_weight, index), maybe_adopted(of_bias, index)};
}

// Attention keeps no scores, as on a GPU.
bool is_fused(const Tensor& query, const Tensor& key, const Tensor& value, const std::optional<Tensor>& mask, double dropout,
              bool gqa) {
  const bool learned = mask && mask->defined() && mask->requires_grad();
  const bool fits = query.dim() == 4 && key.dim() == 4 && value.dim() == 4 && query.is_floating_point() &&
                    query.size(-1) == key.size(-1) && query.size(-1) == value.size(-1) && query.numel() && key.numel();
  return fits && dropout == 0.0 && !learned && !gqa;
}

// A mask of booleans as what is added to the scores.
std::optional<Tensor> as_bias(const std::optional<Tensor>& mask, const Tensor& query) {
  if (!mask || !mask->defined() || mask->scalar_type() != at::kBool) return mask;
  const auto least = -std::numeric_limits<double>::infinity();
  return at::zeros(mask->sizes(), query.options()).masked_fill_(mask->logical_not(), least);
}

Tensor attention_of_any_kind(const Tensor& query, const Tensor& key, const Tensor& value, const std::optional<Tensor>& mask,
                             double dropout, bool causal, std::optional<double> scale, bool gqa) {
  if (!is_fused(query, key, value, mask, dropout, gqa))
    return std::get<0>(at::_scaled_dot_product_attention_math(query, key, value, mask, dropout, causal, std::nullopt, scale,
                                                              gqa));
  return std::get<0>(at::_scaled_dot_product_fused_attention_overrideable(query, key, value, as_bias(mask, query), dropout,
                                                                          causal, false, scale));
}

using Attended = std::tuple<Tensor, Tensor, Tensor, Tensor, c10::SymInt, c10::SymInt, Tensor, Tensor, Tensor>;

Attended attention(const Tensor& query, const Tensor& key, const Tensor& value, const std::optional<Tensor>& bias,
                   double dropout, bool causal, bool, std::optional<double> scale) {
  at::AutoDispatchBelowADInplaceOrView below;
  auto none = [&] { return at::empty({0}, query.options().dtype(at::kLong)); };
  if (is_large(query) || is_large(key)) {
    const auto statistics = at::zeros({query.size(0), query.size(1), query.size(2)}, query.options().dtype(at::kFloat));
    return {unwritten_like(query), statistics, none(), none(), query.sym_size(2), key.sym_size(2), none(), none(), none()};
  }
  const auto mask = maybe_as_cpu(bias);
  auto [output, logsumexp] = at::_scaled_dot_product_flash_attention_for_cpu(
      either_as_cpu(query), either_as_cpu(key), either_as_cpu(value), dropout, causal, mask, scale);
  const auto index = query.device().index();
  return {adopted(output, index), adopted(logsumexp, index), none(), none(), query.sym_size(2), key.sym_size(2), none(),
          none(), none()};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> attention_backward(
    const Tensor& grad, const Tensor& query, const Tensor& key, const Tensor& value, const Tensor& bias, std::array<bool, 4>,
    const Tensor& out, const Tensor& logsumexp, const Tensor&, const Tensor&, c10::SymInt, c10::SymInt, double dropout,
    bool causal, const Tensor&, const Tensor&, std::optional<double> scale) {
  at::AutoDispatchBelowADInplaceOrView below;
  if (is_large(query) || is_large(key))
    return {unwritten_like(query), unwritten_like(key), unwritten_like(value), Tensor()};
  const auto mask = maybe_as_cpu(bias);
  auto [of_query, of_key, of_value] = at::_scaled_dot_product_flash_attention_for_cpu_backward(
      either_as_cpu(grad), either_as_cpu(query), either_as_cpu(key), either_as_cpu(value), either_as_cpu(out),
      either_as_cpu(logsumexp), dropout, causal, mask, scale);
  const auto index = query.device().index();
  return {adopted(of_query, index), adopted(of_key, index), adopted(of_value, index), Tensor()};
}

TORCH_LIBRARY_IMPL(aten, XPU, m) {
  m.impl("empty.memory_format", empty);
  m.impl("empty_strided", empty_strided);
  m.impl("copy_", copy_);
  m.impl("_copy_from", copy_from);
  m.impl("_copy_from_and_resize", copy_from_and_resize);
  m.impl("resize_", resize_);
  m.impl("set_.source_Storage", set_storage);
  m.impl("set_.source_Storage_storage_offset", set_storage_part);
  m.impl("convolution_overrideable", convolution);
  m.impl("convolution_backward_overrideable", convolution_backward);
  m.impl("native_group_norm", group_norm);
  m.impl("native_group_norm_backward", group_norm_backward);
  m.impl("scaled_dot_product_attention", attention_of_any_kind);
  m.impl("_scaled_dot_product_fused_attention_overrideable", attention);
  m.impl("_scaled_dot_product_fused_attention_overrideable_backward", attention_backward);
}

TORCH_LIBRARY_IMPL(aten, AutogradXPU, m) {
  m.impl("scaled_dot_product_attention", attention_of_any_kind);
}

}  // namespace
