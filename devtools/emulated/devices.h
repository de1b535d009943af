// What PyTorch asks of a kind of device: which there are, which is the current one, and their random generators.

#pragma once

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <ATen/detail/XPUHooksInterface.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include "memory.h"

namespace {

struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override {
    return kKind;
  }
  c10::Device exchangeDevice(c10::Device device) const override {
    const auto before = getDevice();
    setDevice(device);
    return before;
  }
  c10::Device getDevice() const override {
    return {kKind, current};
  }
  void setDevice(c10::Device device) const override {
    if (device.has_index()) current = device.index();
  }
  void uncheckedSetDevice(c10::Device device) const noexcept override {
    if (device.has_index()) current = device.index();
  }
  c10::Stream getStream(c10::Device device) const noexcept override {
    return c10::Stream(c10::Stream::DEFAULT, device.has_index() ? device : getDevice());
  }
  c10::Stream getNewStream(c10::Device device, int) const override {
    return getStream(device);
  }
  c10::Stream exchangeStream(c10::Stream stream) const noexcept override {
    return stream;
  }
  // Always all: the threads of the backward pass are counted once.
  c10::DeviceIndex deviceCount() const noexcept override {
    return kMostDevices;
  }
  // Work is done when it is asked for, so there is never anything to wait for.
  void record(void**, const c10::Stream&, c10::DeviceIndex, c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override {
    return true;
  }
  bool queryStream(const c10::Stream&) const override {
    return true;
  }
  void synchronizeStream(const c10::Stream&) const override {}
  void synchronizeEvent(void*) const override {}
  void synchronizeDevice(c10::DeviceIndex) const override {}
};

C10_REGISTER_GUARD_IMPL(XPU, Guard);

struct DeviceGenerator : at::CPUGeneratorImpl {
  explicit DeviceGenerator(c10::DeviceIndex index) {
    device_ = c10::Device(kKind, index);
    key_set_ = kKeys;
  }
};

at::Generator& default_generator(c10::DeviceIndex index) {
  static auto generators = [] {
    std::vector<at::Generator> made;
    for (int i = 0; i < kMostDevices; ++i) made.push_back(at::make_generator<DeviceGenerator>(i));
    return made;
  }();
  return generators.at(index < 0 ? current : index);
}

struct XPUHooks final : at::XPUHooksInterface {
  template <typename... Arguments>  // none in new versions of PyTorch
  explicit XPUHooks(const Arguments&...) {}
  void init() const override {}
  bool hasXPU() const override {
    return true;
  }
  bool isBuilt() const {  // these two without `override`: PyTorch 2.6 does not know them
    return true;
  }
  bool isAvailable() const {
    return true;
  }
  bool hasPrimaryContext(c10::DeviceIndex) const override {
    return true;
  }
  c10::DeviceIndex deviceCount() const override {
    return count;
  }
  c10::DeviceIndex getNumGPUs() const override {
    return count;
  }
  c10::DeviceIndex current_device() const override {
    return current;
  }
  c10::DeviceIndex getCurrentDevice() const override {
    return current;
  }
  void setCurrentDevice(c10::DeviceIndex index) const override {
    current = index;
  }
  c10::DeviceIndex exchangeDevice(c10::DeviceIndex index) const override {
    return std::exchange(current, index);
  }
  c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex index) const override {
    return std::exchange(current, index);
  }
  const at::Generator& getDefaultGenerator(c10::DeviceIndex index) const override {
    return default_generator(index);
  }
  at::Generator getNewGenerator(c10::DeviceIndex index) const override {
    return at::make_generator<DeviceGenerator>(index < 0 ? current : index);
  }
  c10::Device getDeviceFromPtr(void*) const override {
    return {kKind, current};
  }
  at::Allocator* getPinnedMemoryAllocator() const override {
    return c10::GetCPUAllocator();
  }
  void deviceSynchronize(c10::DeviceIndex) const override {}
};

using at::XPUHooksRegistry;
using at::RegistererXPUHooksRegistry;
REGISTER_XPU_HOOKS(XPUHooks);

// A PyTorch that was built for CUDA looks for no other device, also where there is no GPU. Here it was not.
struct NoCUDA final : at::CUDAHooksInterface {
  template <typename... Arguments>
  explicit NoCUDA(const Arguments&...) {}
};

using at::CUDAHooksRegistry;
using at::RegistererCUDAHooksRegistry;
const RegistererCUDAHooksRegistry no_cuda("CUDAHooks", c10::REGISTRY_PREFERRED, CUDAHooksRegistry(),
                                          RegistererCUDAHooksRegistry::DefaultCreator<NoCUDA>);

}  // namespace
