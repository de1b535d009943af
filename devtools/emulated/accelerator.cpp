// An accelerator for PyTorch that a processor plays, for tests on machines without one.
//
// What a GPU asks of a program and a processor forgives is asked here as well: tensors of two devices do not mix, NumPy cannot
// read them, each device has a limited memory of its own and a random generator of its own, and the backward pass runs in a
// thread of its own. The arithmetic is the processor's: every operation is handed the same memory under the processor's name,
// and what it returns is taken over as memory of the device.
//
// It takes the place of Intel's GPUs (`xpu`), which ComfyUI knows and which this PyTorch was built without: like NVIDIA's, and
// unlike backends from outside ("PrivateUse1"), they keep a module's parameters the same objects when it is moved.
// emulated_device.py is the Python side.

#include "devices.h"
#include "kernels.h"
#include "operations.h"

// For emulated_device.py.
extern "C" {
void emulated_begin(int devices, unsigned long long capacity, int float64, int sizes) {
  sizes_alone = sizes != 0;
  count = std::min(devices, kMostDevices);
  has_float64 = float64 != 0;
  for (auto& memory : memories) memory.capacity = capacity;
}
int emulated_count() { return count; }
void emulated_set_count(int devices) { count = std::min(devices, kMostDevices); }
int emulated_current() { return current; }
void emulated_set_current(int index) { current = static_cast<c10::DeviceIndex>(index); }
unsigned long long emulated_capacity(int index) { return memories.at(index).capacity; }
void emulated_set_capacity(int index, unsigned long long bytes) { memories.at(index).capacity = bytes; }
unsigned long long emulated_allocated(int index) { return memories.at(index).allocated; }
unsigned long long emulated_peak(int index) { return memories.at(index).peak; }
void emulated_seed(int index, unsigned long long seed) { default_generator(index).set_current_seed(seed); }
// The state of a random generator, as bytes; returns how many there are.
unsigned long long emulated_state(int index, void* bytes, int write) {
  auto& generator = default_generator(index);
  auto state = generator.get_state();
  if (write) {
    std::memcpy(state.data_ptr(), bytes, state.numel());
    generator.set_state(state);
  } else if (bytes != nullptr) {
    std::memcpy(bytes, state.data_ptr(), state.numel());
  }
  return state.numel();
}
void emulated_reset_peak(int index) { memories.at(index).peak = memories.at(index).allocated.load(); }
}
