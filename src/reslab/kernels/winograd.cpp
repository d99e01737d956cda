// 3x3 convolution with stride 1 and padding 1, in fp32, on channels-last activations, by Winograd's F(2x2, 3x3) (Lavin
// and Gray 2015, arXiv 1509.09308): forward, gradient of the input and gradient of the weights.
//
// A tile of 2x2 outputs costs 16 multiplications for each pair of channels in place of 36. The input's tiles of 4x4
// pixels and the weights are transformed, B^T d B and G g G^T; for each of the 16 positions what is left is a matrix
// product over the channels; and A^T m A is the outputs. All of a block of tiles stays in the second-level cache.
//
// For processors with AVX2 and no more, whose general libraries have no such kernel. Those with AVX-512 have one of
// their own for the narrow layers (conv.cpp).
//
// Sums are over fixed slices of the images by the number of threads: results are reproducible bit for bit for a given
// number of threads.

#if defined(__AVX2__) && defined(__FMA__) && !defined(__AVX512F__)

#include <immintrin.h>
#include <omp.h>

#include <cstdint>
#include <cstring>
#include <vector>

#include "simd.h"

namespace {

constexpr int kPositions = 16;  // of a transformed tile
constexpr int kWide = 16;       // output channels that a product computes at a time: two vectors
constexpr int kBlock = 16;      // tiles worked through together

// Numbers of a position's tiles. A cache line more than they are: at powers of two apart, all 16 positions of a number
// would compete for the same lines of the first-level cache.
inline int64_t stride_of(int channels) { return int64_t(kBlock) * channels + 16; }

struct Shape {
  int64_t images;
  int height, width, in, out;  // in, out: channels
  int down() const { return (height + 1) / 2; }  // tiles
  int across() const { return (width + 1) / 2; }
  int64_t line(int channels) const { return int64_t(2 * across() + 2) * channels; }  // of a padded image
  int64_t padded(int channels) const { return (2 * down() + 2) * line(channels); }
};

struct Strides {  // of a weight [out][in][3][3], in elements
  int64_t out, in, row, column;
};

struct Range {
  int64_t begin, end;
};
inline Range slice(int64_t all, int part, int parts) {
  return {all * part / parts, all * (part + 1) / parts};
}

// A buffer that a thread keeps from call to call; not cleared.
template <int kWhich>
float* scratch(size_t size) {
  static thread_local std::vector<float> kept;
  if (kept.size() < size) kept.assign(size, 0.f);
  return kept.data();
}

// A copy of an image with a border of zeros: a pixel above and left, and up to whole tiles below and right.
void pad(const float* image, const Shape& s, int channels, float* padded) {
  const int64_t line = s.line(channels), row = int64_t(s.width) * channels;
  std::memset(padded, 0, sizeof(float) * line);
  for (int y = 0; y < s.height; ++y) {
    float* to = padded + (y + 1) * line;
    std::memset(to, 0, sizeof(float) * channels);
    std::memcpy(to + channels, image + y * row, sizeof(float) * row);
    std::memset(to + channels + row, 0, sizeof(float) * (line - channels - row));
  }
  const int64_t used = (s.height + 1) * line;
  std::memset(padded + used, 0, sizeof(float) * (s.padded(channels) - used));
}

// --- transforms: [position][tile of the block][channel] ---------------------------------------------------------------

// B^T d B of the tiles [begin, begin + count) of a padded image.
void transform_input(const float* padded, const Shape& s, int channels, int begin, int count, float* u) {
  const int64_t line = s.line(channels), position = stride_of(channels);
  for (int t = 0; t < count; ++t) {
    const int tile = begin + t, y = tile / s.across() * 2, x = tile % s.across() * 2;
    const float* from = padded + y * line + int64_t(x) * channels;
    float* to = u + int64_t(t) * channels;
    for (int c = 0; c < channels; c += kLanes) {
      Vec b[4][4];
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) {
        const float* at = from + j * channels + c;
        const Vec d0 = load(at), d1 = load(at + line), d2 = load(at + 2 * line), d3 = load(at + 3 * line);
        b[0][j] = d0 - d2;
        b[1][j] = d1 + d2;
        b[2][j] = d2 - d1;
        b[3][j] = d1 - d3;
      }
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        float* row = to + 4 * i * position + c;
        store(row, b[i][0] - b[i][2]);
        store(row + position, b[i][1] + b[i][2]);
        store(row + 2 * position, b[i][2] - b[i][1]);
        store(row + 3 * position, b[i][1] - b[i][3]);
      }
    }
  }
}

// A^T m A, written to the image; of the last tiles only the pixels that are there.
void transform_output(const float* m, const Shape& s, int begin, int count, float* image) {
  const int64_t position = stride_of(s.out), line = int64_t(s.width) * s.out;
  for (int t = 0; t < count; ++t) {
    const int tile = begin + t, y = tile / s.across() * 2, x = tile % s.across() * 2;
    const bool right = x + 1 < s.width, below = y + 1 < s.height;
    float* to = image + y * line + int64_t(x) * s.out;
    for (int c = 0; c < s.out; c += kLanes) {
      const float* from = m + int64_t(t) * s.out + c;
      Vec a[2][4];
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) {
        const float* at = from + j * position;
        const Vec m1 = load(at + 4 * position), m2 = load(at + 8 * position);
        a[0][j] = load(at) + m1 + m2;
        a[1][j] = m1 - m2 - load(at + 12 * position);
      }
      store(to + c, a[0][0] + a[0][1] + a[0][2]);
      if (right) store(to + s.out + c, a[0][1] - a[0][2] - a[0][3]);
      if (below) store(to + line + c, a[1][0] + a[1][1] + a[1][2]);
      if (below && right) store(to + line + s.out + c, a[1][1] - a[1][2] - a[1][3]);
    }
  }
}

// A g A^T of the gradient's tiles of 2x2 pixels; pixels that are not there count nothing.
void transform_gradient(const float* image, const Shape& s, int begin, int count, float* d) {
  const int64_t position = stride_of(s.out), line = int64_t(s.width) * s.out;
  for (int t = 0; t < count; ++t) {
    const int tile = begin + t, y = tile / s.across() * 2, x = tile % s.across() * 2;
    const bool right = x + 1 < s.width, below = y + 1 < s.height;
    const float* from = image + y * line + int64_t(x) * s.out;
    for (int c = 0; c < s.out; c += kLanes) {
      const Vec g00 = load(from + c), g01 = right ? load(from + s.out + c) : Vec{};
      const Vec g10 = below ? load(from + line + c) : Vec{};
      const Vec g11 = below && right ? load(from + line + s.out + c) : Vec{};
      const Vec a[4][2] = {{g00, g01}, {g00 + g10, g01 + g11}, {g00 - g10, g01 - g11}, {-g10, -g11}};
      float* to = d + int64_t(t) * s.out + c;
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        float* row = to + 4 * i * position;
        store(row, a[i][0]);
        store(row + position, a[i][0] + a[i][1]);
        store(row + 2 * position, a[i][0] - a[i][1]);
        store(row + 3 * position, -a[i][1]);
      }
    }
  }
}

// G g G^T, as [position][block of output channels][input channel][output channel of the block].
// flip: the weights of the gradient of the input (in and out exchanged, turned by half a circle).
void transform_weights(const float* weight, Strides s, bool flip, const Shape& shape, float* v) {
  const int64_t position = int64_t(shape.in) * shape.out;
#pragma omp parallel for schedule(static)
  for (int block = 0; block < shape.out / kWide; ++block)
    for (int i = 0; i < shape.in; ++i) {
      float all[kPositions][kWide];
      for (int k = 0; k < kWide; ++k) {
        const int o = block * kWide + k;
        const float* w = flip ? weight + i * s.out + o * s.in : weight + o * s.out + i * s.in;
        float g[3][3], half[4][3];
        for (int y = 0; y < 3; ++y)
          for (int x = 0; x < 3; ++x) g[y][x] = w[(flip ? 2 - y : y) * s.row + (flip ? 2 - x : x) * s.column];
        for (int x = 0; x < 3; ++x) {
          half[0][x] = g[0][x];
          half[1][x] = 0.5f * (g[0][x] + g[1][x] + g[2][x]);
          half[2][x] = 0.5f * (g[0][x] - g[1][x] + g[2][x]);
          half[3][x] = g[2][x];
        }
        for (int y = 0; y < 4; ++y) {
          const float *h = half[y], sum = 0.5f * (h[0] + h[2]), middle = 0.5f * h[1];
          all[4 * y][k] = h[0];
          all[4 * y + 1][k] = sum + middle;
          all[4 * y + 2][k] = sum - middle;
          all[4 * y + 3][k] = h[2];
        }
      }
      float* to = v + (int64_t(block) * shape.in + i) * kWide;
      for (int p = 0; p < kPositions; ++p) std::memcpy(to + p * position, all[p], sizeof all[p]);
    }
}

// --- products over the channels, or over the tiles ---------------------------------------------------------------------

// Sums of kRows rows by two vectors, in registers: 12 of the 16 there are, two for b and one for a number of a.
//   sum[row][...] = start + sum over k in [0, count) of a[row * a_row + k * a_step] * b[k * b_step ...]
template <int kRows>
inline void product(const float* a, int64_t a_row, int64_t a_step, const float* b, int64_t b_step, int count, bool add,
                    float* sum, int64_t sum_row) {
  __m256 low[kRows], high[kRows];
#pragma GCC unroll 6
  for (int r = 0; r < kRows; ++r) {
    low[r] = add ? _mm256_loadu_ps(sum + r * sum_row) : _mm256_setzero_ps();
    high[r] = add ? _mm256_loadu_ps(sum + r * sum_row + kLanes) : _mm256_setzero_ps();
  }
  for (int k = 0; k < count; ++k, a += a_step, b += b_step) {
    const __m256 first = _mm256_loadu_ps(b), second = _mm256_loadu_ps(b + kLanes);
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r) {
      const __m256 one = _mm256_broadcast_ss(a + r * a_row);
      low[r] = _mm256_fmadd_ps(one, first, low[r]);
      high[r] = _mm256_fmadd_ps(one, second, high[r]);
    }
  }
#pragma GCC unroll 6
  for (int r = 0; r < kRows; ++r) {
    _mm256_storeu_ps(sum + r * sum_row, low[r]);
    _mm256_storeu_ps(sum + r * sum_row + kLanes, high[r]);
  }
}
inline void products(int rows, const float* a, int64_t a_row, int64_t a_step, const float* b, int64_t b_step, int count,
                     bool add, float* sum, int64_t sum_row) {
  int r = 0;
  for (; r + 6 <= rows; r += 6) product<6>(a + r * a_row, a_row, a_step, b, b_step, count, add, sum + r * sum_row, sum_row);
  for (; r + 4 <= rows; r += 4) product<4>(a + r * a_row, a_row, a_step, b, b_step, count, add, sum + r * sum_row, sum_row);
  for (; r < rows; ++r) product<1>(a + r * a_row, a_row, a_step, b, b_step, count, add, sum + r * sum_row, sum_row);
}

// m[tile][out] = sum over in of u[tile][in] v[in][out], for so many tiles.
void multiply(const float* u, const float* v, int tiles, int in, int out, float* m) {
  for (int o = 0; o < out; o += kWide) products(tiles, u, in, 1, v + int64_t(o) * in, kWide, in, false, m + o, out);
}

// total[in][out] += sum over the tiles of u[tile][in] d[tile][out]
void accumulate(const float* u, const float* d, int tiles, int in, int out, float* total) {
  for (int o = 0; o < out; o += kWide) products(in, u, 1, in, d + o, out, tiles, true, total + o, out);
}

// --- the layer --------------------------------------------------------------------------------------------------------

void convolve(const float* x, const float* weight, Strides strides, bool flip, const Shape& s, float* y) {
  std::vector<float> v(size_t(kPositions) * s.in * s.out);
  transform_weights(weight, strides, flip, s, v.data());
  const int tiles = s.down() * s.across(), parts = omp_get_max_threads();
  const int64_t of_u = stride_of(s.in), of_m = stride_of(s.out), of_v = int64_t(s.in) * s.out;
#pragma omp parallel for schedule(static, 1) num_threads(parts)
  for (int part = 0; part < parts; ++part) {
    float* padded = scratch<0>(s.padded(s.in));
    float* u = scratch<1>(kPositions * of_u);
    float* m = scratch<2>(kPositions * of_m);
    const Range r = slice(s.images, part, parts);
    for (int64_t n = r.begin; n < r.end; ++n) {
      pad(x + n * s.height * s.width * s.in, s, s.in, padded);
      for (int begin = 0; begin < tiles; begin += kBlock) {
        const int count = begin + kBlock < tiles ? kBlock : tiles - begin;
        transform_input(padded, s, s.in, begin, count, u);
        for (int p = 0; p < kPositions; ++p)
          multiply(u + p * of_u, v.data() + p * of_v, count, s.in, s.out, m + p * of_m);
        transform_output(m, s, begin, count, y + n * s.height * s.width * s.out);
      }
    }
  }
}

void gradient_of_weights(const float* x, const float* grad, const Shape& s, float* weight_grad, Strides to) {
  const int tiles = s.down() * s.across(), parts = omp_get_max_threads();
  const int64_t of_u = stride_of(s.in), of_d = stride_of(s.out), of_v = int64_t(s.in) * s.out;
  std::vector<float> totals(size_t(parts) * kPositions * of_v, 0.f);
#pragma omp parallel for schedule(static, 1) num_threads(parts)
  for (int part = 0; part < parts; ++part) {
    float* padded = scratch<0>(s.padded(s.in));
    float* u = scratch<1>(kPositions * of_u);
    float* d = scratch<2>(kPositions * of_d);
    float* total = &totals[size_t(part) * kPositions * of_v];
    const Range r = slice(s.images, part, parts);
    for (int64_t n = r.begin; n < r.end; ++n) {
      pad(x + n * s.height * s.width * s.in, s, s.in, padded);
      for (int begin = 0; begin < tiles; begin += kBlock) {
        const int count = begin + kBlock < tiles ? kBlock : tiles - begin;
        transform_input(padded, s, s.in, begin, count, u);
        transform_gradient(grad + n * s.height * s.width * s.out, s, begin, count, d);
        for (int p = 0; p < kPositions; ++p)
          accumulate(u + p * of_u, d + p * of_d, count, s.in, s.out, total + p * of_v);
      }
    }
  }
  // G^T w G
#pragma omp parallel for schedule(static)
  for (int i = 0; i < s.in; ++i)
    for (int o = 0; o < s.out; ++o) {
      float w[4][4], half[3][4];
      for (int p = 0; p < kPositions; ++p) {
        float sum = 0;
        for (int part = 0; part < parts; ++part) sum += totals[(size_t(part) * kPositions + p) * of_v + int64_t(i) * s.out + o];
        w[p / 4][p % 4] = sum;
      }
      for (int c = 0; c < 4; ++c) {
        half[0][c] = w[0][c] + 0.5f * (w[1][c] + w[2][c]);
        half[1][c] = 0.5f * (w[1][c] - w[2][c]);
        half[2][c] = 0.5f * (w[1][c] + w[2][c]) + w[3][c];
      }
      for (int y = 0; y < 3; ++y) {
        const float* h = half[y];
        float* at = weight_grad + o * to.out + i * to.in + y * to.row;
        at[0] = h[0] + 0.5f * (h[1] + h[2]);
        at[to.column] = 0.5f * (h[1] - h[2]);
        at[2 * to.column] = 0.5f * (h[1] + h[2]) + h[3];
      }
    }
}

}  // namespace

extern "C" void winograd_f32(const float* x, const float* weight, int64_t out, int64_t in, int64_t row, int64_t column,
                             int flip, int64_t images, int height, int width, int from, int to, float* y) {
  convolve(x, weight, Strides{out, in, row, column}, flip, Shape{images, height, width, from, to}, y);
}

extern "C" void winograd_weights_f32(const float* x, const float* grad, int64_t images, int height, int width, int from,
                                     int to, float* weight_grad, int64_t out, int64_t in, int64_t row, int64_t column) {
  gradient_of_weights(x, grad, Shape{images, height, width, from, to}, weight_grad, Strides{out, in, row, column});
}

#endif
