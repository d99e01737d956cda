// 3x3 convolution of 16 channels to 16, stride 1, padding 1, on channels-last activations: forward,
// gradient of the input and gradient of the weights.
//
// These are the layers of the first stage of the papers' CIFAR networks. General libraries block
// channels so that wider layers run at the speed of a matrix product, and these at a quarter of it.
// Here the 16 output channels are one vector register, 16 neighbouring pixels are 16 accumulators,
// and each vector of weights is loaded once for all of them. That takes registers of 16 floats, and 32 of them: where
// there are none the kernel is not there, and the general library does the work (with AVX2 at nine tenths of a matrix
// product, five times as fast as this would be).
//
// Sums are accumulated in float and, for the weights, over fixed slices of the images by the number of
// threads: results are reproducible bit for bit for a given number of threads.

#ifdef __AVX512F__

#include <omp.h>

#include <cstdint>
#include <cstring>
#include <vector>
#if defined(__AVX512BF16__) && defined(__AVX512VL__)
#include <immintrin.h>
#define RESLAB_BF16 1
#endif

namespace {

constexpr int kC = 16;       // channels in and out: the lanes of a vector of floats
constexpr int kTaps = 9;     // of a 3x3 kernel
constexpr int kTile = 16;    // pixels of a row computed at a time
constexpr int kChunk = 8;    // rows whose interleaved pixels stay in the first-level cache
typedef float Vec __attribute__((vector_size(4 * kC)));

struct Weights {  // strides of a weight [out][in][3][3], in elements
  int64_t out, in, row, column;
};

struct Range {
  int64_t begin, end;
};
inline Range slice(int64_t all, int part, int parts) {
  return {all * part / parts, all * (part + 1) / parts};
}

// Zeros in a buffer that a thread keeps from call to call: small blocks that come and go between the large ones
// of activations would leave the heap in pieces, which can hold twice the memory that is in use.
template <class T, int kWhich>
T* scratch(size_t size) {
  static thread_local std::vector<T> kept;
  kept.assign(size, T(0));
  return kept.data();
}

// --- fp32 -----------------------------------------------------------------------------------------

struct F32 {
  typedef float T;
  static constexpr int kSteps = kTaps * kC;  // vectors of weights

  // flip: the weights of the gradient of the input (in and out exchanged, turned by half a circle).
  static void pack(const float* w, Weights s, bool flip, float* packed) {
    for (int t = 0; t < kTaps; ++t)
      for (int i = 0; i < kC; ++i)
        for (int o = 0; o < kC; ++o) {
          const int u = flip ? kTaps - 1 - t : t;
          const int from = flip ? i : o, to = flip ? o : i;
          packed[(t * kC + i) * kC + o] =
              w[from * s.out + to * s.in + (u / 3) * s.row + (u % 3) * s.column];
        }
  }

  template <int kPixels>
  static inline void tile(const T* in, int64_t line, const float* weights, T* out) {
    Vec acc[kPixels] = {};
    for (int t = 0; t < kTaps; ++t) {
      const T* from = in + (t / 3) * line + (t % 3) * kC;
      for (int i = 0; i < kC; ++i) {
        Vec w;
        std::memcpy(&w, weights + (t * kC + i) * kC, sizeof w);
#pragma GCC unroll 16
        for (int p = 0; p < kPixels; ++p) acc[p] += w * from[p * kC + i];
      }
    }
    for (int p = 0; p < kPixels; ++p) std::memcpy(out + p * kC, &acc[p], sizeof acc[p]);
  }
};

// --- bf16: products of pairs of channels, accumulated in float --------------------------------------

#ifdef RESLAB_BF16
struct BF16 {
  typedef uint16_t T;
  static constexpr int kSteps = kTaps * kC / 2;

  static void pack(const float* w, Weights s, bool flip, float* packed) {
    std::vector<float> plain(size_t(kTaps) * kC * kC);
    F32::pack(w, s, flip, plain.data());
    for (int step = 0; step < kSteps; ++step) {
      const __m512 even = _mm512_loadu_ps(&plain[size_t(2 * step) * kC]);
      const __m512 odd = _mm512_loadu_ps(&plain[size_t(2 * step + 1) * kC]);
      const __m512i low = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(even));
      const __m512i high = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(odd));
      _mm512_storeu_si512(packed + size_t(step) * kC,
                          _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
    }
  }

  static inline __m512bh broadcast(const T* pair) {
    int32_t both;
    std::memcpy(&both, pair, sizeof both);
    return (__m512bh)_mm512_set1_epi32(both);
  }

  template <int kPixels>
  static inline void tile(const T* in, int64_t line, const float* weights, T* out) {
    __m512 acc[kPixels];
    for (int p = 0; p < kPixels; ++p) acc[p] = _mm512_setzero_ps();
    for (int t = 0; t < kTaps; ++t) {
      const T* from = in + (t / 3) * line + (t % 3) * kC;
      for (int i = 0; i < kC / 2; ++i) {
        const __m512bh w = (__m512bh)_mm512_loadu_si512(weights + (t * kC / 2 + i) * kC);
#pragma GCC unroll 16
        for (int p = 0; p < kPixels; ++p)
          acc[p] = _mm512_dpbf16_ps(acc[p], w, broadcast(from + p * kC + 2 * i));
      }
    }
    for (int p = 0; p < kPixels; ++p)
      _mm256_storeu_si256((__m256i*)(out + p * kC), (__m256i)_mm512_cvtneps_pbh(acc[p]));
  }
};
#endif

// --- forward, and the gradient of the input ---------------------------------------------------------

// A copy of an image with a border of zeros one pixel wide.
template <class T>
void pad(const T* image, int height, int width, T* padded) {
  const int64_t line = int64_t(width + 2) * kC;
  for (int y = 0; y < height; ++y)
    std::memcpy(padded + (y + 1) * line + kC, image + int64_t(y) * width * kC,
                sizeof(T) * width * kC);
}

template <class K, int kPixels>
inline int tiles(const typename K::T* in, int64_t line, const float* weights, typename K::T* out,
                 int x, int width) {
  for (; x + kPixels <= width; x += kPixels)
    K::template tile<kPixels>(in + x * kC, line, weights, out + x * kC);
  return x;
}

template <class K>
void convolve(const typename K::T* x, const float* weight, Weights strides, int flip,
              int64_t images, int height, int width, typename K::T* y) {
  typedef typename K::T T;
  float* packed = scratch<float, 0>(size_t(K::kSteps) * kC);
  K::pack(weight, strides, flip, packed);
  const int64_t line = int64_t(width + 2) * kC, size = int64_t(height) * width * kC;
  const int parts = omp_get_max_threads();
#pragma omp parallel for schedule(static, 1) num_threads(parts)
  for (int part = 0; part < parts; ++part) {
    T* padded = scratch<T, 1>(size_t(height + 2) * line);
    const Range r = slice(images, part, parts);
    for (int64_t n = r.begin; n < r.end; ++n) {
      pad(x + n * size, height, width, padded);
      for (int row = 0; row < height; ++row) {
        const T* in = padded + row * line;
        T* out = y + n * size + int64_t(row) * width * kC;
        int at = tiles<K, kTile>(in, line, packed, out, 0, width);
        if (at < width && width >= kTile) {  // the last tile begins earlier, and some pixels twice
          K::template tile<kTile>(in + (width - kTile) * kC, line, packed,
                                  out + (width - kTile) * kC);
          continue;
        }
        at = tiles<K, 8>(in, line, packed, out, at, width);
        at = tiles<K, 4>(in, line, packed, out, at, width);
        tiles<K, 1>(in, line, packed, out, at, width);
      }
    }
  }
}

// --- the gradient of the weights --------------------------------------------------------------------

// Sums over the rows [begin, end) of an image, added to total[tap][in][out].
void weights_of_rows(const float* padded, const float* grad, int begin, int end, int width,
                     float* total) {
  const int64_t line = int64_t(width + 2) * kC;
  for (int t = 0; t < kTaps; ++t) {
    Vec acc[kC];
    std::memcpy(acc, total + t * kC * kC, sizeof acc);
    for (int y = begin; y < end; ++y) {
      const float* in = padded + (y + t / 3) * line + (t % 3) * kC;
      const float* g = grad + int64_t(y) * width * kC;
      for (int p = 0; p < width; ++p, in += kC, g += kC) {
        Vec d;
        std::memcpy(&d, g, sizeof d);
#pragma GCC unroll 16
        for (int i = 0; i < kC; ++i) acc[i] += d * in[i];
      }
    }
    std::memcpy(total + t * kC * kC, acc, sizeof acc);
  }
}

struct GradF32 {
  typedef float T;
  float* padded;
  GradF32(int height, int width) : padded(scratch<float, 2>(size_t(height + 2) * (width + 2) * kC)) {}
  void add(const T* x, const T* grad, int height, int width, float* total) {
    pad(x, height, width, padded);
    for (int y = 0; y < height; y += kChunk)
      weights_of_rows(padded, grad, y, y + kChunk < height ? y + kChunk : height, width,
                      total);
  }
};

#ifdef RESLAB_BF16
// Two neighbouring pixels are one product: vectors hold (this pixel, the next) for each channel.
inline __m512i interleaved(const uint16_t* a, const uint16_t* b) {
  const __m512i low = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)a));
  const __m512i high = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)b));
  return _mm512_or_si512(low, _mm512_slli_epi32(high, 16));
}

struct GradBF16 {
  typedef uint16_t T;
  uint16_t* padded;
  uint32_t *pairs, *grads;  // of a chunk: [row][pixel][channel], [row][pair][channel]
  int across;                          // pairs of a row
  GradBF16(int height, int width)
      // Two pixels more at the end: where the width is odd, the last pair reads beyond the border.
      : padded(scratch<uint16_t, 3>(size_t(height + 2) * (width + 2) * kC + 2 * kC)),
        pairs(scratch<uint32_t, 4>(size_t(kChunk + 2) * (width + 2) * kC)),
        grads(scratch<uint32_t, 5>(size_t(kChunk) * ((width + 1) / 2) * kC)),
        across((width + 1) / 2) {}

  void add(const T* x, const T* grad, int height, int width, float* total) {
    pad(x, height, width, padded);
    const int64_t line = int64_t(width + 2) * kC;
    const uint16_t zeros[kC] = {};
    for (int begin = 0; begin < height; begin += kChunk) {
      const int rows = begin + kChunk < height ? kChunk : height - begin;
      for (int y = 0; y < rows + 2; ++y)
        for (int p = 0; p < width + 2; ++p) {
          const uint16_t* at = padded + (begin + y) * line + p * kC;
          // Beyond the last pixel of a row stands the border of the next, which is zero.
          _mm512_storeu_si512(&pairs[(size_t(y) * (width + 2) + p) * kC], interleaved(at, at + kC));
        }
      for (int y = 0; y < rows; ++y)
        for (int q = 0; q < across; ++q) {
          const uint16_t* at = grad + (int64_t(begin + y) * width + 2 * q) * kC;
          const uint16_t* next = 2 * q + 1 < width ? at + kC : zeros;
          _mm512_storeu_si512(&grads[(size_t(y) * across + q) * kC], interleaved(at, next));
        }
      for (int t = 0; t < kTaps; ++t) {
        __m512 acc[kC];
        for (int i = 0; i < kC; ++i) acc[i] = _mm512_loadu_ps(total + (t * kC + i) * kC);
        for (int y = 0; y < rows; ++y) {
          const uint32_t* in = &pairs[(size_t(y + t / 3) * (width + 2) + t % 3) * kC];
          const uint32_t* g = &grads[size_t(y) * across * kC];
          for (int q = 0; q < across; ++q, in += 2 * kC, g += kC) {
            const __m512bh d = (__m512bh)_mm512_loadu_si512(g);
#pragma GCC unroll 16
            for (int i = 0; i < kC; ++i)
              acc[i] = _mm512_dpbf16_ps(acc[i], d, (__m512bh)_mm512_set1_epi32(int32_t(in[i])));
          }
        }
        for (int i = 0; i < kC; ++i) _mm512_storeu_ps(total + (t * kC + i) * kC, acc[i]);
      }
    }
  }
};
#endif

template <class G>
void gradient_of_weights(const typename G::T* x, const typename G::T* grad, int64_t images,
                         int height, int width, float* weight_grad, Weights s) {
  const int parts = omp_get_max_threads();
  constexpr int kAll = kTaps * kC * kC;
  float* totals = scratch<float, 6>(size_t(parts) * kAll);
  const int64_t size = int64_t(height) * width * kC;
#pragma omp parallel for schedule(static, 1) num_threads(parts)
  for (int part = 0; part < parts; ++part) {
    G work(height, width);
    const Range r = slice(images, part, parts);
    // Each image by itself first: a long sum in float loses more than many short ones.
    float* one = scratch<float, 7>(kAll);
    float* total = &totals[size_t(part) * kAll];
    for (int64_t n = r.begin; n < r.end; ++n) {
      std::memset(one, 0, sizeof(float) * kAll);
      work.add(x + n * size, grad + n * size, height, width, one);
      for (int k = 0; k < kAll; ++k) total[k] += one[k];
    }
  }
  for (int t = 0; t < kTaps; ++t)
    for (int i = 0; i < kC; ++i)
      for (int o = 0; o < kC; ++o) {
        float sum = 0;
        for (int part = 0; part < parts; ++part)
          sum += totals[size_t(part) * kAll + (t * kC + i) * kC + o];
        weight_grad[o * s.out + i * s.in + (t / 3) * s.row + (t % 3) * s.column] = sum;
      }
}

}  // namespace

#define RESLAB_EXPORT(SUFFIX, K, G)                                                                \
  extern "C" void conv16_##SUFFIX(const void* x, const float* weight, int64_t out, int64_t in,     \
                                  int64_t row, int64_t column, int flip, int64_t images,           \
                                  int height, int width, void* y) {                                \
    convolve<K>((const K::T*)x, weight, Weights{out, in, row, column}, flip, images, height,       \
                width, (K::T*)y);                                                                  \
  }                                                                                                \
  extern "C" void conv16_weights_##SUFFIX(const void* x, const void* grad, int64_t images,         \
                                          int height, int width, float* weight_grad, int64_t out,  \
                                          int64_t in, int64_t row, int64_t column) {               \
    gradient_of_weights<G>((const G::T*)x, (const G::T*)grad, images, height, width, weight_grad,  \
                           Weights{out, in, row, column});                                         \
  }

RESLAB_EXPORT(f32, F32, GradF32)
#ifdef RESLAB_BF16
RESLAB_EXPORT(bf16, BF16, GradBF16)
#endif

#endif  // __AVX512F__
