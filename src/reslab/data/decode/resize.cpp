// A part of an image that is there as pixels, resized: for where libjpeg's header is not.

#include <cstdlib>

#include "resize.h"

namespace {

struct Blocks {
  void *all[16];
  int count;
};

void *give(void *owner, size_t bytes) {
  auto *blocks = static_cast<Blocks *>(owner);
  return blocks->all[blocks->count++] = malloc(bytes);
}

}  // namespace

// Writes the crop, uint8 (rows, columns, 3), and returns 1; 0 for a box that is not in the image.
//   pixels  uint8 (height, width, 3)
//   box     left, top, right, bottom in pixels
//   all     rows and columns that the box is resized to, and the first row and column that are wanted
extern "C" int resized_part(const uint8_t *pixels, int width, int height, const float *box, const int *all,
                            int rows, int columns, int flip, uint8_t *out) {
  const Wanted wanted{box, all, rows, columns, flip, out};
  if (!wanted.within(width, height)) return 0;
  Blocks blocks{};
  const Memory memory{give, &blocks};
  Resize<3> resize(memory, wanted, width, height);
  const int left = resize.x.begin, wide = resize.x.end - left;
  resize.begin(memory, left, wide);
  for (int at = resize.y.begin; at < resize.y.end; at++) {
    memcpy(resize.row, pixels + (static_cast<size_t>(at) * width + left) * 3, static_cast<size_t>(wide) * 3);
    resize.next(at);
  }
  for (int i = 0; i < blocks.count; i++) free(blocks.all[i]);
  return resize.done();
}
