// The resize of Pillow (Resample.c, with a triangle for a filter): two passes with weights of 22 bits, across and then
// down, row by row as the rows come. What comes out is bit for bit what Pillow makes in that order.

#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#ifdef __SSE4_1__
#include <immintrin.h>
#endif

namespace {

constexpr int BITS = 22;  // of a weight, as in Pillow: 32 - 8 of a pixel - 2
constexpr int HALF = 1 << (BITS - 1);
constexpr int LANES = 4;  // red, green, blue and a byte that is not used: a pixel fits a register

typedef int32_t Wide __attribute__((vector_size(16)));

#ifdef __SSE4_1__  // gcc 12 makes twenty instructions of what is one
inline Wide loaded(const uint8_t *pixel) {
  int32_t bytes;
  memcpy(&bytes, pixel, LANES);
  return reinterpret_cast<Wide>(_mm_cvtepu8_epi32(_mm_cvtsi32_si128(bytes)));
}

inline void store(uint8_t *pixel, Wide sum) {
  const __m128i lowest = _mm_set1_epi32(0x0C080400);
  const int32_t bytes = _mm_cvtsi128_si32(_mm_shuffle_epi8(reinterpret_cast<__m128i>(sum >> BITS), lowest));
  memcpy(pixel, &bytes, LANES);
}
#else
inline Wide loaded(const uint8_t *pixel) { return Wide{pixel[0], pixel[1], pixel[2], pixel[3]}; }

inline void store(uint8_t *pixel, Wide sum) {
  for (int i = 0; i < LANES; i++) pixel[i] = static_cast<uint8_t>(sum[i] >> BITS);
}
#endif

// Memory that its owner frees when all is done, in whatever way it ends.
struct Memory {
  void *(*give)(void *owner, size_t bytes);
  void *owner;

  template <typename T>
  T *take(size_t count) const {
    return static_cast<T *>(give(owner, count * sizeof(T)));
  }
};

// What each output pixel is made of: `most` pixels from `first` on, by their weights; all of them in [begin, end).
struct Taps {
  int most, begin, end;
  int *first;
  int32_t *weights;  // (out, most)
};

// Pillow's precompute_coeffs, in its types: the rounding has to be the same. Of `all` pixels that [in0, in1) is resized
// to, those from `from` on.
Taps taps(const Memory &memory, int in, float in0, float in1, int all, int from, int out) {
  const double scale = static_cast<double>(in1 - in0) / all, wide = scale < 1.0 ? 1.0 : scale, narrow = 1.0 / wide;
  Taps found{0, in, 0, memory.take<int>(out), nullptr};
  auto *count = memory.take<int>(out);
  for (int x = 0; x < out; x++) {
    const double centre = in0 + (from + x + 0.5) * scale;
    int low = static_cast<int>(centre - wide + 0.5), high = static_cast<int>(centre + wide + 0.5);
    low = low < 0 ? 0 : low;
    high = high > in ? in : high;
    found.first[x] = low;
    count[x] = high - low;
    if (count[x] > found.most) found.most = count[x];
    if (low < found.begin) found.begin = low;
    if (high > found.end) found.end = high;
  }
  found.weights = memory.take<int32_t>(static_cast<size_t>(out) * found.most);
  auto *exact = memory.take<double>(found.most);
  for (int x = 0; x < out; x++) {
    const double centre = in0 + (from + x + 0.5) * scale;
    double sum = 0.0;
    for (int k = 0; k < count[x]; k++) {
      double at = (k + found.first[x] - centre + 0.5) * narrow;
      at = at < 0.0 ? -at : at;
      exact[k] = at < 1.0 ? 1.0 - at : 0.0;
      sum += exact[k];
    }
    for (int k = 0; k < found.most; k++) {
      const double weight = k < count[x] ? (sum != 0.0 ? exact[k] / sum : exact[k]) : 0.0;
      found.weights[static_cast<size_t>(x) * found.most + k] = static_cast<int32_t>(0.5 + weight * (1 << BITS));
    }
  }
  return found;
}

// A row of pixels of STRIDE bytes to one of pixels of three. Each writes four; the next overwrites the last of them.
template <int STRIDE, int MOST>
void across(uint8_t *__restrict out, const uint8_t *row, const Taps &x, int columns) {
  const int most = MOST ? MOST : x.most;
  const int32_t *weight = x.weights;
  const int *first = x.first;
  for (int i = 0; i < columns; i++, weight += most) {
    const uint8_t *in = row + static_cast<size_t>(first[i]) * STRIDE;
    Wide sum = {HALF, HALF, HALF, HALF};
    for (int k = 0; k < most; k++) sum += loaded(in + STRIDE * k) * weight[k];
    store(out + 3 * i, sum);
  }
}

// Rows that were resized across to one of the output. What they are is copied first: bytes may alias anything.
template <int MOST>
void down(uint8_t *__restrict out, const uint8_t *const *rows, const int32_t *weights, int, int bytes) {
  const uint8_t *row[MOST];
  int32_t weight[MOST];
  for (int k = 0; k < MOST; k++) {
    row[k] = rows[k];
    weight[k] = weights[k];
  }
  for (int j = 0; j < bytes; j++) {
    int32_t sum = HALF;
    for (int k = 0; k < MOST; k++) sum += row[k][j] * weight[k];
    out[j] = static_cast<uint8_t>(sum >> BITS);
  }
}

inline void down_many(uint8_t *__restrict out, const uint8_t *const *rows, const int32_t *weights, int most, int bytes) {
  constexpr int PART = 256;
  int32_t sum[PART];
  for (int start = 0; start < bytes; start += PART) {
    const int count = bytes - start < PART ? bytes - start : PART;
    for (int j = 0; j < count; j++) sum[j] = HALF;
    for (int k = 0; k < most; k++) {
      const uint8_t *row = rows[k] + start;
      const int32_t weight = weights[k];
      for (int j = 0; j < count; j++) sum[j] += row[j] * weight;
    }
    for (int j = 0; j < count; j++) out[start + j] = static_cast<uint8_t>(sum[j] >> BITS);
  }
}

typedef void (*Across)(uint8_t *, const uint8_t *, const Taps &, int);
typedef void (*Down)(uint8_t *, const uint8_t *const *, const int32_t *, int, int);
constexpr int KNOWN = 6;  // numbers of taps with code of their own

template <int STRIDE>
Across across_for(int most) {
  static const Across known[] = {across<STRIDE, 0>, across<STRIDE, 1>, across<STRIDE, 2>, across<STRIDE, 3>,
                                 across<STRIDE, 4>, across<STRIDE, 5>, across<STRIDE, 6>};
  return known[most <= KNOWN ? most : 0];
}

inline Down down_for(int most) {
  static const Down known[] = {down_many, down<1>, down<2>, down<3>, down<4>, down<5>, down<6>};
  return known[most <= KNOWN ? most : 0];
}

// What is wanted: of a box of an image that is resized to all[0] x all[1] pixels, (rows, columns) of them, uint8 (..., 3).
struct Wanted {
  const float *box;  // left, top, right, bottom, in pixels of the image
  const int *all;  // rows and columns that the box is resized to, and the first of each that is wanted
  int rows, columns, flip;
  uint8_t *out;

  bool within(int width, int height) const {  // false for what is no number, too
    return rows > 0 && columns > 0 && all[2] >= 0 && all[2] <= all[0] - rows && all[3] >= 0 &&
           all[3] <= all[1] - columns && box[0] >= 0 && box[0] < box[2] && box[2] <= width && box[1] >= 0 &&
           box[1] < box[3] && box[3] <= height;
  }
};

// Takes the rows of an image from y.begin to y.end, one after the other, and writes those of the output.
template <int STRIDE>
struct Resize {
  const Wanted &wanted;
  Taps x, y;
  uint8_t *row = nullptr;  // where the caller puts the next one, from the column that it has named
  uint8_t *ring = nullptr;  // the last rows, resized across
  const uint8_t **rows = nullptr;
  size_t length = 0;
  int made = 0;

  Resize(const Memory &memory, const Wanted &what, int width, int height)
      : wanted(what),
        x(taps(memory, width, what.box[0], what.box[2], what.all[1], what.all[3], what.columns)),
        y(taps(memory, height, what.box[1], what.box[3], what.all[0], what.all[2], what.rows)) {}

  // Of each row the pixels [left, left + columns) will come, at least [x.begin, x.end).
  void begin(const Memory &memory, int left, int columns) {
    for (int i = 0; i < wanted.columns; i++) x.first[i] -= left;
    if (wanted.flip) {
      for (int i = 0, j = wanted.columns - 1; i < j; i++, j--) {
        swap(x.first[i], x.first[j]);
        for (int k = 0; k < x.most; k++) swap(x.weights[offset(i) + k], x.weights[offset(j) + k]);
      }
    }
    const size_t padded = (static_cast<size_t>(columns) + x.most + 1) * STRIDE;  // taps of weight 0 reach beyond the end
    row = memory.take<uint8_t>(padded);
    memset(row, 0, padded);
    length = (static_cast<size_t>(wanted.columns) * 3 + 1 + 63) / 64 * 64;
    ring = memory.take<uint8_t>(length * y.most);
    memset(ring, 0, length * y.most);
    rows = memory.take<const uint8_t *>(y.most);
  }

  // The row `at` of the image is there.
  void next(int at) {
    if (at < y.begin || at >= y.end) return;
    const int bytes = wanted.columns * 3;
    across_for<STRIDE>(x.most)(ring + length * (at % y.most), row, x, wanted.columns);
    for (; made < wanted.rows; made++) {
      const int32_t *weights = y.weights + static_cast<size_t>(made) * y.most;
      int last = y.most - 1;
      while (last > 0 && weights[last] == 0) last--;  // nothing is waited for that counts nothing
      if (y.first[made] + last > at) break;
      for (int k = 0; k < y.most; k++) rows[k] = ring + length * ((y.first[made] + k) % y.most);
      down_for(y.most)(wanted.out + static_cast<size_t>(made) * bytes, rows, weights, y.most, bytes);
    }
  }

  bool done() const { return made == wanted.rows; }

 private:
  size_t offset(int i) const { return static_cast<size_t>(i) * x.most; }

  template <typename T>
  static void swap(T &one, T &other) {
    const T kept = one;
    one = other;
    other = kept;
  }
};

}  // namespace
