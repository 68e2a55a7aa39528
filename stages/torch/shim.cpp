// What libtorch has and tch does not: PyTorch's fused AdamW. Exceptions end here: each function returns the text of
// one, or null.

#include <cstddef>
#include <cstring>
#include <exception>
#include <vector>

#include <ATen/core/Tensor.h>
#include <ATen/ops/_fused_adamw.h>

namespace {
std::vector<at::Tensor> list(at::Tensor* const* tensors, std::size_t count) {
  std::vector<at::Tensor> all;
  all.reserve(count);
  for (std::size_t place = 0; place < count; ++place) all.push_back(*tensors[place]);
  return all;
}
}  // namespace

extern "C" char* plumb_fused_adamw(at::Tensor* const* weights, at::Tensor* const* gradients, at::Tensor* const* means,
                                   at::Tensor* const* squares, std::size_t count, const at::Tensor* steps,
                                   const at::Tensor* gradient_scale, double rate, double beta1, double beta2,
                                   double decay, double epsilon) {
  try {
    const std::vector<at::Tensor> all_steps(count, *steps);
    at::_fused_adamw_(list(weights, count), list(gradients, count), list(means, count), list(squares, count), {},
                      all_steps, rate, beta1, beta2, decay, epsilon, /*amsgrad=*/false, /*maximize=*/false,
                      *gradient_scale);
    return nullptr;
  } catch (const std::exception& error) {
    return strdup(error.what());
  }
}
