// Vectors of floats as wide as the processor's registers, and the loads and stores that widen bf16 to them and round them to it.
#pragma once

#include <cstdint>
#include <cstring>
#if defined(__AVX512BF16__) && defined(__AVX512VL__)
#include <immintrin.h>
#endif

namespace {

// Wider vectors than the registers compile too, into code that keeps them in memory: several times slower.
#ifdef __AVX512F__
constexpr int kLanes = 16;
#else
constexpr int kLanes = 8;
#endif
typedef float Vec __attribute__((vector_size(4 * kLanes)));
typedef uint32_t Bits __attribute__((vector_size(4 * kLanes)));
typedef uint16_t Half __attribute__((vector_size(2 * kLanes)));

struct bf16 {
  uint16_t bits;
};

inline Vec load(const float* p) {
  Vec v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
inline void store(float* p, Vec v) { std::memcpy(p, &v, sizeof v); }

inline Vec widen(Half h) { return (Vec)(__builtin_convertvector(h, Bits) << 16); }
inline Vec load(const bf16* p) {
  Half h;
  std::memcpy(&h, p, sizeof h);
  return widen(h);
}
inline float value(float v) { return v; }
inline float value(bf16 h) {
  const uint32_t u = uint32_t(h.bits) << 16;
  float v;
  std::memcpy(&v, &u, sizeof v);
  return v;
}
// Rounds to nearest even. A NaN stays a NaN (rounding its bits up could turn it into infinity).
inline Half narrow(Vec v) {
#if defined(__AVX512BF16__) && defined(__AVX512VL__)
  return (Half)_mm512_cvtneps_pbh((__m512)v);
#else
  const Bits u = (Bits)v;
  const Bits rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  const Bits quiet = (u >> 16) | 0x40u;
  return __builtin_convertvector(v == v ? rounded : quiet, Half);
#endif
}
inline void store(bf16* p, Vec v) {
  const Half h = narrow(v);
  std::memcpy(p, &h, sizeof h);
}

}  // namespace
