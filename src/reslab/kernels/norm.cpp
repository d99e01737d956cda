// Batch normalisation fused with the addition and the ReLU or GELU that follow it, for channels-last
// activations on the CPU, forward and backward.
//
// Eager PyTorch runs BN, addition and ReLU as separate kernels, each of which reads and writes the
// whole activation. At CIFAR sizes these memory-bound passes cost as much as the convolutions.
// Here the forward is two passes (statistics; normalise + add + ReLU) and the backward two.
//
// Plain C interface, loaded with ctypes: no PyTorch headers, so it compiles in about two seconds
// and does not depend on the ABI of a PyTorch release. OpenMP comes from the library that torch has
// already loaded, so both share one team of threads.
//
// Layout: x[rows][channels] with rows = N*H*W (channels-last storage). BN statistics are taken over
// `groups` equal, consecutive parts of the rows. The work is cut into fixed slices by the number of
// threads, and sums are added in the order of the slices: results are reproducible bit for bit for
// a given number of threads, however many of them the system grants.

#include <omp.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "simd.h"

namespace {

inline Vec relu(Vec v) { return v < 0.f ? Vec{} : v; }  // a NaN passes, as in torch.relu
enum Activation { kNone = 0, kRelu = 1, kGelu = 2 };

// e^x for -87 <= x <= 0, within 2 units in the last place.
inline Vec exp_of_negative(Vec x) {
  const Vec magic = Vec{} + 12582912.f;  // 1.5 * 2^23: adding it rounds to a whole number
  const Vec n = x * 1.44269504f + magic;
  const Vec whole = n - magic;
  const Vec r = (x - whole * 0.693359375f) + whole * 2.12194440e-4f;
  const Vec p = 1.f + r * (1.f + r * (0.5f + r * (0.16666667f + r * (0.041666668f + r * (0.0083333477f + r * 0.0013908577f)))));
  return (Vec)((Bits)p + ((Bits)n << 23));
}

struct Gelu {
  Vec phi;      // the share that passes: the normal distribution's function
  Vec density;  // and its density
};
// Abramowitz and Stegun 7.1.26 for the error function: within 1.5e-7.
inline Gelu gelu_at(Vec u) {
  const Vec z = (u < 0.f ? -u : u) * 0.70710678f;
  const Vec t = 1.f / (1.f + 0.3275911f * z);
  const Vec square = -z * z;
  const Vec e = exp_of_negative(square < -87.f ? Vec{} - 87.f : square);
  const Vec tail = 0.5f * e * t * (0.254829592f + t * (-0.284496736f + t * (1.421413741f + t * (-1.453152027f + t * 1.061405429f))));
  return {u < 0.f ? tail : 1.f - tail, e * 0.39894228f};
}
inline Vec gelu(Vec u) { return u * gelu_at(u).phi; }
inline Vec gelu_slope(Vec u) {
  const Gelu g = gelu_at(u);
  return g.phi + u * g.density;
}
inline Vec where_positive(Vec y, Vec v) { return y > 0.f ? v : Vec{}; }

// Rows summed in float before they are added to the double total: bounds the rounding error.
constexpr int64_t kBlock = 256;

struct Range {
  int64_t begin, end;
};
inline Range slice(int64_t rows, int part, int parts) {
  return {rows * part / parts, rows * (part + 1) / parts};
}

// Rows taken at a time, in the order in which they lie in memory: column by column of all rows, memory would be read in
// pieces too short for it (the backward of 256 channels takes half as long again).
constexpr int kRows = 8;

// Of the rows [begin, end), a block: adds to a[] and b[] the sums of the two vectors that `term(index, channel)` yields.
// kVectors: of a row, whose sums then stay in registers; 0 for rows of any width.
template <int kVectors, class Term>
inline void sum_block(int64_t begin, int64_t end, int width, float* a, float* b, Term term) {
  constexpr int kStep = kVectors ? kVectors : 1;
  const int rows = kVectors ? int(end - begin) : kRows;
  for (int64_t row = begin; row < end; row += rows) {
    const int64_t stop = row + rows < end ? row + rows : end;
    for (int c0 = 0; c0 < width; c0 += kStep * kLanes) {
      Vec sa[kStep] = {}, sb[kStep] = {};
      const auto add = [&](int64_t at) {
#pragma GCC unroll 4
        for (int k = 0; k < kStep; ++k) {
          const int c = c0 + k * kLanes;
          Vec u, v;
          term(at * width + c, c, u, v);
          sa[k] += u;
          sb[k] += v;
        }
      };
      if (!kVectors && stop - row == kRows) {
#pragma GCC unroll 8
        for (int k = 0; k < kRows; ++k) add(row + k);
      } else {
        for (int64_t at = row; at < stop; ++at) add(at);
      }
      for (int k = 0; k < kStep; ++k) {
        const int c = c0 + k * kLanes;
        store(a + c, load(a + c) + sa[k]);
        store(b + c, load(b + c) + sb[k]);
      }
    }
  }
}
// The same of all rows of a range, added to sums[] and, for the second vector, behind it.
template <class Term>
inline void sum_rows(Range r, int width, double* sums, Term term) {
  static thread_local std::vector<float> kept;
  for (int64_t block = r.begin; block < r.end; block += kBlock) {
    const int64_t stop = block + kBlock < r.end ? block + kBlock : r.end;
    kept.assign(2 * size_t(width), 0.f);
    if (width == 4 * kLanes)
      sum_block<4>(block, stop, width, kept.data(), kept.data() + width, term);
    else
      sum_block<0>(block, stop, width, kept.data(), kept.data() + width, term);
    for (int c = 0; c < 2 * width; ++c) sums[c] += kept[c];
  }
}

// Neighbouring rows are folded into one wide row, so that narrow layers fill the vectors too.
// 0 if the channels cannot be brought to a multiple of the lanes.
inline int fold_of(int64_t rows_per_group, int channels) {
  int fold = 1;
  while ((fold * channels % (4 * kLanes) != 0) && fold < 64 && rows_per_group % (2 * fold) == 0)
    fold *= 2;
  return fold * channels % kLanes == 0 ? fold : 0;
}

struct Sums {
  int parts, groups, width;
  std::vector<double> values;
  Sums(int parts, int groups, int width)
      : parts(parts),
        groups(groups),
        width(width),
        values(size_t(parts) * groups * 2 * width, 0.0) {}
  double* of(int part, int group) { return &values[(size_t(part) * groups + group) * 2 * width]; }
  double total(int group, int which, int channel, int channels) {
    double s = 0;
    for (int p = 0; p < parts; ++p)
      for (int c = channel; c < width; c += channels) s += of(p, group)[which * width + c];
    return s;
  }
};

// training: mean and var are computed here; otherwise they are given (the running statistics).
// running_mean, running_var: null, or followed with momentum by the mean over the groups (of the unbiased variance).
// Returns 1, having done nothing, if the shape is one that the vectors cannot cover.
template <class T>
int forward(const T* x, const T* residual, const float* weight, const float* bias, float eps,
            int64_t rows, int channels, int groups, int training, int activation, T* y, float* mean,
            float* var, float* invstd, float* running_mean, float* running_var, float momentum) {
  const int64_t per_group = rows / groups;
  const int fold = fold_of(per_group, channels);
  if (!fold) return 1;
  const int width = channels * fold;
  const int64_t lines = per_group / fold;
  Sums sums(omp_get_max_threads(), groups, width);
  std::vector<float> scale(size_t(groups) * width), shift(size_t(groups) * width);
  // The variance is taken about the group's first pixel: a channel whose mean is far from zero would
  // otherwise lose it to rounding (E[x^2] - mean^2).
  std::vector<float> origin(size_t(groups) * width);
  for (int g = 0; training && g < groups; ++g)
    for (int k = 0; k < width; ++k)
      origin[g * width + k] = value(x[g * lines * width + k % channels]);
#pragma omp parallel num_threads(sums.parts)
  {
#pragma omp for schedule(static, 1)
    for (int part = 0; part < sums.parts; ++part) {
      const Range r = slice(lines, part, sums.parts);
      for (int g = 0; training && g < groups; ++g) {
        const T* xg = x + g * lines * width;
        const float* o = &origin[g * width];
        sum_rows(r, width, sums.of(part, g), [=](int64_t i, int c, Vec& u, Vec& v) {
          u = load(xg + i) - load(o + c);
          v = u * u;
        });
      }
    }
#pragma omp single
    for (int g = 0; g < groups; ++g)
      for (int c = 0; c < channels; ++c) {
        const int i = g * channels + c;
        if (training) {
          const double m = sums.total(g, 0, c, channels) / per_group;
          double v = sums.total(g, 1, c, channels) / per_group - m * m;
          if (v < 0) v = 0;  // rounding only; a NaN fails the comparison and is passed on
          mean[i] = float(m + origin[g * width + c]);
          var[i] = float(v);
        }
        invstd[i] = float(1.0 / std::sqrt(double(var[i]) + eps));
        for (int k = c; k < width; k += channels) {
          scale[g * width + k] = weight[c] * invstd[i];
          shift[g * width + k] = bias[c] - mean[i] * weight[c] * invstd[i];
        }
      }
#pragma omp master
    for (int c = 0; running_mean && c < channels; ++c) {
      double m = 0, v = 0;
      for (int g = 0; g < groups; ++g) m += mean[g * channels + c], v += var[g * channels + c];
      m /= groups;
      v *= double(per_group) / (per_group - 1) / groups;
      running_mean[c] = float(running_mean[c] + momentum * (m - running_mean[c]));
      running_var[c] = float(running_var[c] + momentum * (v - running_var[c]));
    }
#pragma omp for schedule(static, 1)
    for (int part = 0; part < sums.parts; ++part) {
      const Range r = slice(lines, part, sums.parts);
      for (int g = 0; g < groups; ++g) {
        const float *a = &scale[g * width], *b = &shift[g * width];
        for (int64_t line = g * lines + r.begin; line < g * lines + r.end; ++line)
          for (int c = 0; c < width; c += kLanes) {
            const int64_t i = line * width + c;
            Vec v = load(x + i) * load(a + c) + load(b + c);
            if (residual) v += load(residual + i);
            store(y + i, activation == kRelu ? relu(v) : activation == kGelu ? gelu(v) : v);
          }
      }
    }
  }
  return 0;
}

// also: null, or a second gradient of the same y, from the shortcut that y feeds beside the next branch: it is
// added here, where both have to be read anyway, rather than by a pass of its own.
// grad_residual: null without an addition; with one it receives the gradient behind the ReLU,
// which is the gradient of the shortcut, and the second pass reads it.
// before: the shortcut that was added, for GELU, whose slope is computed again; null without an addition, or with ReLU.
// Where the ReLU was open is seen from y if there was an addition. Otherwise it is computed again
// from x, which has to be read anyway: memory is what these passes wait for.
template <class T>
int backward(const T* grad, const T* also, const T* x, const T* y, const T* before, const float* weight,
             const float* bias, const float* mean, const float* invstd, int64_t rows, int channels, int groups,
             int activation, T* grad_x, T* grad_residual, float* grad_weight, float* grad_bias) {
  const int64_t per_group = rows / groups;
  const int fold = fold_of(per_group, channels);
  if (!fold) return 1;
  const int width = channels * fold;
  const int64_t lines = per_group / fold;
  Sums sums(omp_get_max_threads(), groups, width);
  std::vector<float> centre(size_t(groups) * width), scale(centre.size()), shift(centre.size());
  for (int g = 0; g < groups; ++g)
    for (int k = 0; k < width; ++k) {
      const int c = k % channels, i = g * channels + c;
      centre[g * width + k] = mean[i];
      scale[g * width + k] = weight[c] * invstd[i];
      shift[g * width + k] = bias[c] - mean[i] * weight[c] * invstd[i];
    }
  std::vector<float> of_grad(centre.size()), of_x(centre.size()), constant(centre.size());
#pragma omp parallel num_threads(sums.parts)
  {
#pragma omp for schedule(static, 1)
    for (int part = 0; part < sums.parts; ++part) {
      const Range r = slice(lines, part, sums.parts);
      for (int g = 0; g < groups; ++g) {
        const int64_t at = g * lines * width;
        const T *dg = grad + at, *eg = also ? also + at : nullptr, *xg = x + at, *yg = y ? y + at : nullptr;
        const T* bg = before ? before + at : nullptr;
        T* rg = grad_residual ? grad_residual + at : nullptr;
        const float *mu = &centre[g * width], *a = &scale[g * width], *b = &shift[g * width];
        if (activation == kGelu) {
          // The gradient behind the GELU is kept where that of x will come, so that the slope is computed once.
          T* kept = rg ? rg : grad_x + at;
          sum_rows(r, width, sums.of(part, g), [=](int64_t i, int c, Vec& u, Vec& v) {
            const Vec xi = load(xg + i);
            Vec z = xi * load(a + c) + load(b + c);
            if (bg) z += load(bg + i);
            u = load(dg + i);
            if (eg) u += load(eg + i);
            u *= gelu_slope(z);
            store(kept + i, u);
            v = u * (xi - load(mu + c));
          });
        } else if (rg) {
          sum_rows(r, width, sums.of(part, g), [=](int64_t i, int c, Vec& u, Vec& v) {
            u = load(dg + i);
            if (eg) u += load(eg + i);
            if (activation == kRelu) u = where_positive(load(yg + i), u);
            store(rg + i, u);
            v = u * (load(xg + i) - load(mu + c));
          });
        } else {
          sum_rows(r, width, sums.of(part, g), [=](int64_t i, int c, Vec& u, Vec& v) {
            const Vec xi = load(xg + i);
            u = load(dg + i);
            if (eg) u += load(eg + i);
            if (activation == kRelu) u = where_positive(xi * load(a + c) + load(b + c), u);
            v = u * (xi - load(mu + c));
          });
        }
      }
    }
#pragma omp single
    for (int c = 0; c < channels; ++c) {
      double total_weight = 0, total_bias = 0;
      for (int g = 0; g < groups; ++g) {
        const double sum = sums.total(g, 0, c, channels), dot = sums.total(g, 1, c, channels);
        const double is = invstd[g * channels + c];
        total_bias += sum;
        total_weight += dot * is;
        // dx = w*invstd * (dy - mean(dy) - (x - mu) * invstd^2 * mean(dy * (x - mu)))
        const double k1 = weight[c] * is, k2 = -k1 * dot * is * is / per_group;
        const double k3 = -k1 * sum / per_group - k2 * mean[g * channels + c];
        for (int k = c; k < width; k += channels) {
          of_grad[g * width + k] = float(k1);
          of_x[g * width + k] = float(k2);
          constant[g * width + k] = float(k3);
        }
      }
      grad_weight[c] = float(total_weight);
      grad_bias[c] = float(total_bias);
    }
    const bool kept = grad_residual || activation == kGelu;
    const T* behind = grad_residual ? grad_residual : activation == kGelu ? grad_x : grad;
    const T* added = kept ? nullptr : also;
    const bool mask = activation == kRelu && !kept;
#pragma omp for schedule(static, 1)
    for (int part = 0; part < sums.parts; ++part) {
      const Range r = slice(lines, part, sums.parts);
      for (int g = 0; g < groups; ++g) {
        const float *k1 = &of_grad[g * width], *k2 = &of_x[g * width], *k3 = &constant[g * width];
        const float *a = &scale[g * width], *b = &shift[g * width];
        for (int64_t line = g * lines + r.begin; line < g * lines + r.end; ++line)
          for (int c = 0; c < width; c += kLanes) {
            const int64_t i = line * width + c;
            const Vec xi = load(x + i);
            Vec u = load(behind + i);
            if (added) u += load(added + i);
            if (mask) u = where_positive(xi * load(a + c) + load(b + c), u);
            store(grad_x + i, load(k1 + c) * u + load(k2 + c) * xi + load(k3 + c));
          }
      }
    }
  }
  return 0;
}

}  // namespace

#define RESLAB_EXPORT(SUFFIX, T)                                                                   \
  extern "C" int bn_forward_##SUFFIX(const void* x, const void* residual, const float* weight,     \
                                     const float* bias, float eps, int64_t rows, int channels,     \
                                     int groups, int training, int activation, void* y,            \
                                     float* mean, float* var, float* invstd, float* running_mean,  \
                                     float* running_var, float momentum) {                         \
    return forward<T>((const T*)x, (const T*)residual, weight, bias, eps, rows, channels, groups,  \
                      training, activation, (T*)y, mean, var, invstd, running_mean, running_var,    \
                      momentum);                                                                   \
  }                                                                                                \
  extern "C" int bn_backward_##SUFFIX(                                                             \
      const void* grad, const void* also, const void* x, const void* y, const void* before,        \
      const float* weight, const float* bias,                                                      \
      const float* mean, const float* invstd, int64_t rows, int channels, int groups,              \
      int activation, void* grad_x, void* grad_residual, float* grad_weight, float* grad_bias) {   \
    return backward<T>((const T*)grad, (const T*)also, (const T*)x, (const T*)y, (const T*)before, \
                       weight, bias,                                                               \
                       mean, invstd, rows, channels, groups, activation, (T*)grad_x, (T*)grad_residual, grad_weight,    \
                       grad_bias);                                                                 \
  }

RESLAB_EXPORT(bf16, bf16)
RESLAB_EXPORT(f32, float)
