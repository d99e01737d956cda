// Max pooling with stride 2 on channels-last activations, forward and backward: of 2x2 pixels, and of 3x3 with a pixel
// of padding (the pool behind the stem of ImageNet's networks).
//
// PyTorch keeps an index of eight bytes for each number that it puts out, fills the gradient with zeros and scatters
// into it. Here which pixel was largest is one byte, and the backward pass gathers: it writes each number once.
//
// Equal numbers: the first pixel of the window, row by row, as in PyTorch. A NaN passes.

#include <omp.h>

#include "simd.h"

namespace {

typedef uint8_t Bytes __attribute__((vector_size(kLanes)));

inline void store_exact(float* p, Vec v) { store(p, v); }
// What was read is written back bit for bit: the upper half of the wide number is the bf16.
inline void store_exact(bf16* p, Vec v) {
  const Half h = __builtin_convertvector((Bits)v >> 16, Half);
  std::memcpy(p, &h, sizeof h);
}

inline Bits load_index(const uint8_t* p) {
  Bytes b;
  std::memcpy(&b, p, sizeof b);
  return __builtin_convertvector(b, Bits);
}

struct Shape {
  int64_t images;
  int height, width, channels;
  int rows, columns;  // of the output
};

template <int kKernel>
Shape shape_of(int64_t images, int height, int width, int channels) {
  constexpr int kPad = kKernel / 3;
  return {images,   height,
          width,    channels,
          (height + 2 * kPad - kKernel) / 2 + 1, (width + 2 * kPad - kKernel) / 2 + 1};
}

template <int kKernel, class T>
void forward(const T* x, Shape s, T* y, uint8_t* which) {
  constexpr int kPad = kKernel / 3;
  const int64_t down = int64_t(s.width) * s.channels;
#pragma omp parallel for schedule(static)
  for (int64_t row = 0; row < s.images * s.rows; ++row) {
    const int top = int(row % s.rows) * 2 - kPad;
    const T* image = x + row / s.rows * s.height * down;
    for (int column = 0; column < s.columns; ++column) {
      const int left = column * 2 - kPad;
      const int64_t to = (row * s.columns + column) * s.channels;
      for (int c = 0; c < s.channels; c += kLanes) {
        Vec most = {};
        Bits index = {};
        bool first = true;
        for (int i = 0; i < kKernel; ++i) {
          if (kPad && (top + i < 0 || top + i >= s.height)) continue;
          for (int j = 0; j < kKernel; ++j) {
            if (kPad && (left + j < 0 || left + j >= s.width)) continue;
            const Vec v = load(image + (top + i) * down + int64_t(left + j) * s.channels + c);
            const Bits here = Bits{} + uint32_t(i * kKernel + j);
            const auto more = (v > most) | (v != v);
            most = first ? v : more ? v : most;
            index = first ? here : more ? here : index;
            first = false;
          }
        }
        store_exact(y + to + c, most);
        const Bytes bytes = __builtin_convertvector(index, Bytes);
        std::memcpy(which + to + c, &bytes, sizeof bytes);
      }
    }
  }
}

template <int kKernel, class T>
void backward(const T* grad, const uint8_t* which, Shape s, T* grad_x) {
  constexpr int kPad = kKernel / 3;
#pragma omp parallel for schedule(static)
  for (int64_t line = 0; line < s.images * s.height; ++line) {
    const int y = int(line % s.height);
    const int64_t image = line / s.height * s.rows;
    // The windows that have this row: the last begins at or above it, the one before it may reach it too.
    const int last = (y + kPad) / 2 < s.rows ? (y + kPad) / 2 : s.rows - 1;
    for (int x = 0; x < s.width; ++x) {
      const int end = (x + kPad) / 2 < s.columns ? (x + kPad) / 2 : s.columns - 1;
      T* to = grad_x + (line * s.width + x) * s.channels;
      for (int c = 0; c < s.channels; c += kLanes) {
        Vec sum = {};
        for (int row = last; row >= 0 && y + kPad - 2 * row < kKernel; --row)
          for (int column = end; column >= 0 && x + kPad - 2 * column < kKernel; --column) {
            const int64_t from = ((image + row) * s.columns + column) * s.channels + c;
            const uint32_t here = (y + kPad - 2 * row) * kKernel + (x + kPad - 2 * column);
            sum += load_index(which + from) == here ? load(grad + from) : Vec{};
          }
        store(to + c, sum);
      }
    }
  }
}

}  // namespace

#define RESLAB_EXPORT(NAME, KERNEL, SUFFIX, T)                                                     \
  extern "C" void NAME##_##SUFFIX(const void* x, int64_t images, int height, int width,            \
                                  int channels, void* y, uint8_t* which) {                         \
    forward<KERNEL>((const T*)x, shape_of<KERNEL>(images, height, width, channels), (T*)y, which); \
  }                                                                                                \
  extern "C" void NAME##_backward_##SUFFIX(const void* grad, const uint8_t* which, int64_t images, \
                                           int height, int width, int channels, void* grad_x) {    \
    backward<KERNEL>((const T*)grad, which, shape_of<KERNEL>(images, height, width, channels),     \
                     (T*)grad_x);                                                                  \
  }

RESLAB_EXPORT(max_pool2, 2, bf16, bf16)
RESLAB_EXPORT(max_pool2, 2, f32, float)
RESLAB_EXPORT(max_pool3, 3, bf16, bf16)
RESLAB_EXPORT(max_pool3, 3, f32, float)
