// Images of bytes, shifted, mirrored and normalised in one pass: each pixel of the output looks its bytes up in a table.
//
// By PyTorch's own operations the same takes seven passes over a batch of floats, four times as large as the bytes.
// Layout: images[n][y][x][c], channels-last storage; out alike, in floats.

#include <cstdint>

namespace {

struct Batch {
  const uint8_t* images;
  const int64_t *rows, *columns;  // of the source: [n][height], [n][width]; outside the image stands the border
  int64_t n;
  int height, width, channels;
};

// table[c][256]: what a byte becomes. mean: null, or [y][x][c], then (table - mean) / std is what it becomes; black: null,
// or [c], then that is subtracted and added again, which rounds as PyTorch's padding with it does.
template <int kChannels, bool kPerPixel>
void shifted(const Batch& b, const float* table, const float* mean, const float* std, const float* black,
             const float* border, float* out) {
  const int channels = kChannels ? kChannels : b.channels;
  const int64_t line = int64_t(b.width) * channels;
#pragma omp parallel for collapse(2) schedule(static)
  for (int64_t i = 0; i < b.n; ++i)
    for (int y = 0; y < b.height; ++y) {
      const int64_t row = b.rows[i * b.height + y];
      const int64_t* columns = b.columns + i * b.width;
      float* to = out + (i * b.height + y) * line;
      const bool inside = row >= 0 && row < b.height;
      const uint8_t* from = inside ? b.images + (i * b.height + row) * line : nullptr;
      for (int x = 0; x < b.width; ++x, to += channels) {
        const int64_t column = columns[x];
        if (!inside || column < 0 || column >= b.width) {
          for (int c = 0; c < channels; ++c) to[c] = border[c];
          continue;
        }
        const uint8_t* pixel = from + column * channels;
        for (int c = 0; c < channels; ++c) {
          float v = table[c * 256 + pixel[c]];
          if (kPerPixel) {
            v = (v - mean[row * line + column * channels + c]) / std[c];
            if (black) v = (v - black[c]) + black[c];
          }
          to[c] = v;
        }
      }
    }
}

template <int kChannels>
void either(const Batch& b, const float* table, const float* mean, const float* std, const float* black,
            const float* border, float* out) {
  (mean ? shifted<kChannels, true> : shifted<kChannels, false>)(b, table, mean, std, black, border, out);
}

}  // namespace

extern "C" void shifted_u8(const uint8_t* images, const int64_t* rows, const int64_t* columns, int64_t n, int height,
                           int width, int channels, const float* table, const float* mean, const float* std,
                           const float* black, const float* border, float* out) {
  const Batch batch{images, rows, columns, n, height, width, channels};
  (channels == 3 ? either<3> : channels == 1 ? either<1> : either<0>)(batch, table, mean, std, black, border, out);
}
