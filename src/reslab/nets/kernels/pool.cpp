// Max pooling of 2x2 pixels with stride 2 on channels-last activations, forward and backward.
//
// PyTorch keeps an index of eight bytes for each number that it puts out, and its two passes take three times what
// reading and writing the activation takes. Here which of the four pixels was largest is one byte, and the backward
// pass writes each number once.
//
// Equal numbers: the first of the four, row by row, as in PyTorch. A NaN passes.

#include <omp.h>

#include <cstdint>
#include <cstring>

namespace {

constexpr int kLanes = 16;
typedef uint8_t Bytes __attribute__((vector_size(kLanes)));

// bf16: the order of the numbers is that of their float extensions.
struct BF16 {
  typedef uint16_t T;
  typedef uint16_t Vec __attribute__((vector_size(2 * kLanes)));
  typedef uint32_t Bits __attribute__((vector_size(4 * kLanes)));
  typedef float Wide __attribute__((vector_size(4 * kLanes)));
  static Wide widen(Vec v) { return (Wide)(__builtin_convertvector(v, Bits) << 16); }
};

struct F32 {
  typedef float T;
  typedef float Vec __attribute__((vector_size(4 * kLanes)));
  typedef uint32_t Bits __attribute__((vector_size(4 * kLanes)));
  typedef float Wide __attribute__((vector_size(4 * kLanes)));
  static Wide widen(Vec v) { return v; }
};

template <class V, class T>
inline V load(const T* p) {
  V v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

// One vector of channels of one window: the largest of its four pixels, and which it was.
template <class K>
inline void largest(const typename K::T* x, int64_t right, int64_t down, typename K::T* y, uint8_t* which) {
  typedef typename K::Wide Wide;
  typedef typename K::Bits Bits;
  const int64_t at[4] = {0, right, down, down + right};
  Wide most = K::widen(load<typename K::Vec>(x));
  Bits index = {};
#pragma GCC unroll 3
  for (uint32_t k = 1; k < 4; ++k) {
    const Wide v = K::widen(load<typename K::Vec>(x + at[k]));
    const auto more = (v > most) | (v != v);
    most = more ? v : most;
    index = more ? Bits{} + k : index;
  }
  // What was read is written back bit for bit: the upper half of the wide number is the bf16.
  if constexpr (sizeof(typename K::T) == 2) {
    const auto narrow = __builtin_convertvector((Bits)most >> 16, typename K::Vec);
    std::memcpy(y, &narrow, sizeof narrow);
  } else {
    std::memcpy(y, &most, sizeof most);
  }
  const Bytes bytes = __builtin_convertvector(index, Bytes);
  std::memcpy(which, &bytes, sizeof bytes);
}

template <class K>
void forward(const typename K::T* x, int64_t images, int height, int width, int channels, typename K::T* y,
             uint8_t* which) {
  const int rows = height / 2, columns = width / 2;
  const int64_t down = int64_t(width) * channels;
#pragma omp parallel for schedule(static)
  for (int64_t row = 0; row < images * rows; ++row) {
    const auto* from = x + ((row / rows) * height + (row % rows) * 2) * down;
    const int64_t to = row * columns * channels;
    for (int column = 0; column < columns; ++column)
      for (int c = 0; c < channels; c += kLanes) {
        const int64_t i = to + int64_t(column) * channels + c;
        largest<K>(from + int64_t(column) * 2 * channels + c, channels, down, y + i, which + i);
      }
  }
}

// Bits are moved as they are, so a gradient is any number of the size of T.
template <class Word>
void backward(const Word* grad, const uint8_t* which, int64_t images, int height, int width, int channels,
              Word* grad_x) {
  typedef Word Vec __attribute__((vector_size(sizeof(Word) * kLanes)));
  const int rows = height / 2, columns = width / 2;
  const int64_t down = int64_t(width) * channels;
  const size_t rest = sizeof(Word) * size_t(width - 2 * columns) * channels;
#pragma omp parallel for schedule(static)
  for (int64_t row = 0; row < images * rows; ++row) {
    Word* to = grad_x + ((row / rows) * height + (row % rows) * 2) * down;
    const int64_t from = row * columns * channels;
    for (int column = 0; column < columns; ++column)
      for (int c = 0; c < channels; c += kLanes) {
        const int64_t i = from + int64_t(column) * channels + c;
        const Vec g = load<Vec>(grad + i);
        const Vec index = __builtin_convertvector(load<Bytes>(which + i), Vec);
        Word* target = to + int64_t(column) * 2 * channels + c;
        const int64_t at[4] = {0, channels, down, down + channels};
#pragma GCC unroll 4
        for (int k = 0; k < 4; ++k) {
          const Vec v = index == Word(k) ? g : Vec{};
          std::memcpy(target + at[k], &v, sizeof v);
        }
      }
    // Pixels of an odd width or height that no window has.
    if (rest) {
      std::memset(to + int64_t(2 * columns) * channels, 0, rest);
      std::memset(to + down + int64_t(2 * columns) * channels, 0, rest);
    }
    if (height % 2 && row % rows == rows - 1) std::memset(to + 2 * down, 0, sizeof(Word) * down);
  }
}

}  // namespace

#define RESLAB_EXPORT(SUFFIX, K, WORD)                                                             \
  extern "C" void max_pool_##SUFFIX(const void* x, int64_t images, int height, int width,          \
                                    int channels, void* y, uint8_t* which) {                       \
    forward<K>((const K::T*)x, images, height, width, channels, (K::T*)y, which);                  \
  }                                                                                                \
  extern "C" void max_pool_backward_##SUFFIX(const void* grad, const uint8_t* which,               \
                                             int64_t images, int height, int width, int channels,  \
                                             void* grad_x) {                                       \
    backward<WORD>((const WORD*)grad, which, images, height, width, channels,                \
                         (WORD*)grad_x);                                                           \
  }

RESLAB_EXPORT(bf16, BF16, uint16_t)
RESLAB_EXPORT(f32, F32, uint32_t)
